"""The masked autoencoder for distribution estimation (MADE) with a context and several outputs a feature."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .made import made_degrees
from .zuko_names import MaskedLinear

__all__ = ["ConditionalMADE"]


class ConditionalMADE(nn.Module):
    """A network whose outputs for feature ``d`` depend on the features before ``d``, and on a context.

    Germain et al., MADE (2015), section 4, https://arxiv.org/abs/1502.03509, with ReLU. The context enters the first
    layer only, through a linear map without bias, as in the released code of DU-VAE (Shen et al., 2021). The outputs
    for the first feature read no hidden unit: they are constants, whatever the context.

    Args:
        features: Inputs ``D``. With one there is nothing to depend on, and the outputs are constants.
        hidden: Width of the hidden layers.
        hidden_layers: How many there are, 1 or more.
        outputs: Numbers for each feature, ``M``.
        context: Size ``K`` of the context; 0 for none.
        degrees: For each hidden layer, how many features each unit may read, ``[hidden]`` in 1..D-1; by default spread
            evenly. The released code draws them.
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        hidden_layers: int = 2,
        outputs: int = 2,
        context: int = 0,
        degrees: Sequence[Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.outputs = outputs
        self.layers = nn.ModuleList()
        # Of one feature every weight would be masked, and parameters that nothing reaches are better not there.
        self.constant = nn.Parameter(torch.zeros(outputs, 1)) if features == 1 else None
        self.context: nn.Module | None = None
        if features == 1:
            return
        reads = torch.arange(features)
        before = reads + 1
        for after in degrees or [made_degrees(features, hidden)] * hidden_layers:
            self.layers.append(MaskedLinear(after[:, None] >= before[None, :]))
            before = after
        self.layers.append(MaskedLinear(reads.repeat(outputs)[:, None] >= before[None, :]))
        if context:
            self.context = nn.Linear(context, hidden, bias=False)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return ``[..., M, D]`` for ``x [..., D]``; a context ``[..., K]`` broadcasts against it."""
        if self.constant is not None:
            return self.constant.expand(*x.shape[:-1], self.outputs, 1)
        h = self.layers[0](x)
        if self.context is not None:
            h = h + self.context(context)
        for layer in self.layers[1:]:
            h = layer(self.activation(h))
        out: Tensor = h.unflatten(-1, (self.outputs, x.shape[-1]))
        return out
