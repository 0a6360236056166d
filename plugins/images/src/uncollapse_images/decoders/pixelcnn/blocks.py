"""The residual blocks of the masked PixelCNN, and how they are joined."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional

from ..channel_order import ChannelOrdering
from ..masked_conv import MaskedConv2d, convolution1x1
from ..normalization import Normalization, normalizer

__all__ = ["Block", "Bottleneck", "through_blocks"]

_SKIP = 3


class Bottleneck(nn.Module):
    """``1x1 -> masked k x k -> 1x1`` around a narrower width, ELU before each convolution and after the sum."""

    def __init__(
        self,
        channels: int,
        hidden: int,
        kernel_size: int,
        latent_size: int,
        normalization: Normalization,
        ordering: ChannelOrdering,
    ) -> None:
        super().__init__()
        # Batch normalization brings biases of its own.
        bias = normalization != "batch"
        outer, inner = ordering.features(channels), ordering.features(hidden)
        self.reduce = convolution1x1(channels, hidden, bias, ordering.connections(outer, inner))
        self.masked = MaskedConv2d(
            hidden,
            hidden,
            kernel_size,
            include_centre=True,
            latent_size=latent_size,
            bias=bias,
            centre=ordering.connections(inner, inner),
        )
        self.restore = convolution1x1(hidden, channels, bias, ordering.connections(inner, outer))
        self.norms = nn.ModuleList(normalizer(normalization, width) for width in (hidden, hidden, channels))

    def forward(self, h: Tensor, latent: Tensor | None) -> Tensor:
        """Return ``[N, channels, H, W]`` for ``h`` of that shape and the latent ``[N, latent_size]``, if it is used."""
        # In place, so that pre-activations, which no gradient needs, are not kept: a seventh less time on CPU.
        inner = functional.elu(self.norms[0](self.reduce(h)), inplace=True)
        inner = functional.elu(self.norms[1](self.masked(inner, latent=latent)), inplace=True)
        return functional.elu(self.norms[2](self.restore(inner)).add_(h), inplace=True)


Block = Callable[[Tensor], Tensor]


def through_blocks(h: Tensor, blocks: Sequence[Block], skips: Sequence[Block]) -> Tensor:
    """Return the features behind all blocks, for the output ``h`` of the first layer.

    Layer ``i``, counted from the first layer 0, hands its output to the next layer and, through skip block ``i``, to
    layer ``i + 3``: it is added to that layer's input, behind the last layer to the result.
    """
    recent = deque([h], maxlen=_SKIP)
    for i, block in enumerate((*blocks, None), start=1):
        if skips and i >= _SKIP:
            h = h + skips[i - _SKIP](recent[0])
        if block is not None:
            h = block(h)
            recent.append(h)
    return h
