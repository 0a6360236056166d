"""The order of the channels of one pixel: which features of a network may know which channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from uncollapse.errors import ConfigError

__all__ = ["JOINT", "ChannelOrder", "ChannelOrdering"]

ChannelOrder = Literal["joint", "ascending", "descending"]


@dataclass(frozen=True)
class ChannelOrdering:
    """Who sees whom at one position: van den Oord et al., Pixel Recurrent Neural Networks (2016), section 3.4,
    https://arxiv.org/abs/1601.06759.

    With an order, the features of every layer are dealt out to the channels in equal groups; at its own position a
    group sees the groups of earlier channels and, but for the first layer (mask A), its own. Without one the channels
    of a pixel are drawn together and nothing more is masked.

    Args:
        order: Indices of the channels in the order in which they are drawn; None for all together.
    """

    order: tuple[int, ...] | None = None

    @classmethod
    def of(cls, order: ChannelOrder, channels: int) -> ChannelOrdering:
        """Return the ordering of data with that many channels; a single channel has none."""
        if order == "joint" or channels == 1:
            return JOINT
        return cls(tuple(range(channels)) if order == "ascending" else tuple(reversed(range(channels))))

    def features(self, width: int) -> Tensor | None:
        """Return for each of ``width`` features how many channels are drawn before the one it belongs to, ``[width]``.

        Raises:
            ConfigError: There are fewer features than channels.
        """
        if self.order is None:
            return None
        if width < len(self.order):
            raise ConfigError(
                f"model.decoder: with a channel_order every layer has a group of features for each of the data's "
                f"{len(self.order)} channels, found a layer of {width}; use wider layers (channels, hidden), or "
                "channel_order: joint"
            )
        return torch.arange(width) * len(self.order) // width

    def values(self, count: int) -> Tensor | None:
        """Return the same for ``count`` numbers per position in blocks of one number a channel, ``[count]``."""
        if self.order is None:
            return None
        ranks = torch.empty(len(self.order), dtype=torch.long)
        ranks[list(self.order)] = torch.arange(len(self.order))
        return ranks.repeat(count // len(self.order))

    @staticmethod
    def connections(inputs: Tensor | None, outputs: Tensor | None, *, strict: bool = False) -> Tensor | None:
        """Return which output sees which input at its own position, ``[outputs, inputs]``; None for all.

        Args:
            inputs: Ranks of the inputs, as :meth:`features` gives them.
            outputs: Ranks of the outputs.
            strict: Mask A: earlier channels only.
        """
        if inputs is None or outputs is None:
            return None
        return inputs < outputs[:, None] if strict else inputs <= outputs[:, None]

    def check(self, likelihood: nn.Module) -> None:
        """Raise if the likelihood couples the channels of a pixel by itself.

        Raises:
            ConfigError: It does, so that there is no conditional of one channel to draw from.
        """
        if self.order is not None and hasattr(likelihood, "output_channels"):
            raise ConfigError(
                f"model.decoder.channel_order: {type(likelihood).__name__} couples the channels of a pixel itself, so "
                "they cannot be drawn one after the other; use channel_order: joint, or a likelihood whose channels "
                "are independent (bernoulli, categorical, gaussian, logistic)"
            )


JOINT = ChannelOrdering()
"""The channels of a pixel are drawn together."""
