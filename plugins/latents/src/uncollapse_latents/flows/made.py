"""The masked autoencoder for distribution estimation (MADE), with weight normalization and a linear skip."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from uncollapse_images.weight_norm import weight_normalized

from .zuko_names import MaskedLinear

__all__ = ["MADE", "made_degrees"]


def made_degrees(features: int, hidden: int) -> Tensor:
    """Return for each hidden unit how many features, in order, it may read: ``[hidden]``, ascending in 1..features-1.

    Germain et al., MADE (2015), section 4, https://arxiv.org/abs/1502.03509, with degrees spread evenly instead of
    drawn: unit ``k`` of ``K`` reads ``ceil(k (D - 1) / K)`` features.

    >>> made_degrees(4, 8).tolist()
    [1, 1, 2, 2, 2, 3, 3, 3]
    """
    # In integers: in floating point the ceiling of a whole number may come out one too high.
    return -(-torch.arange(1, hidden + 1) * (features - 1)).div(hidden, rounding_mode="floor")


class MADE(nn.Module):
    """A network whose output ``d`` depends on the inputs before ``d`` in the order only.

    Germain et al., MADE (2015), section 4, https://arxiv.org/abs/1502.03509;
    masks and weight normalization as in MAE's released code: ``out(relu(... relu(in(x)))) + skip(x)``, every layer
    masked, the effective weight ``v exp(g) / (||v|| + 1e-8)`` over the live entries.

    Args:
        features: Inputs, and outputs, ``D``. With one there is nothing to depend on and the output is a constant.
        hidden: Width of the hidden layers.
        hidden_layers: How many there are, 1 or more.
        reverse: Order the features from the last to the first.
        weight_norm: Normalize weights.
    """

    def __init__(
        self, features: int, hidden: int, hidden_layers: int = 1, reverse: bool = False, weight_norm: bool = True
    ) -> None:
        super().__init__()
        self.features = features
        self.layers = nn.ModuleList()
        # Of one feature every weight would be masked, and parameters that nothing reaches are better not there.
        self.constant = nn.Parameter(torch.zeros(1)) if features == 1 else None
        if features == 1:
            return
        reads = torch.arange(features)
        holds, units = reads + 1, made_degrees(features, hidden)
        if reverse:
            reads, holds, units = reads.flip(0), holds.flip(0), units.flip(0)
        before = holds
        for after in [units] * hidden_layers + [reads]:
            self.layers.append(self._linear(before, after, weight_norm))
            before = after
        self.skip = self._linear(holds, reads, weight_norm)
        self.activation = nn.ReLU()

    @staticmethod
    def _linear(before: Tensor, after: Tensor, weight_norm: bool) -> nn.Module:
        mask = after[:, None] >= before[None, :]
        layer: nn.Module = MaskedLinear(mask)
        return weight_normalized(layer, mask=mask, log_gain=True) if weight_norm else layer

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[..., D]`` for ``x [..., D]``."""
        if self.constant is not None:
            return self.constant.expand_as(x)
        h = x
        for layer in self.layers[:-1]:
            h = self.activation(layer(h))
        out: Tensor = self.layers[-1](h) + self.skip(x)
        return out
