"""The autoregressive-flow prior."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.distributions import ReshapeTransform
from uncollapse.config import BuildContext, PriorConfig
from uncollapse.distributions import DiagonalNormal
from uncollapse_images.weight_norm import initialize_from_data

from ..flows import AutoregressiveAffine, LazyComposedTransform, LazyTransform, NormalizingFlow, UnconditionalTransform

__all__ = ["AutoregressivePrior", "AutoregressivePriorConfig"]

_INITIAL_SAMPLES = 500
_INITIAL_SCALE = 0.1


class AutoregressivePrior(nn.Module):
    """``p(z)`` by an autoregressive flow: VLAE's prior (Chen et al., 2017, section 3.2,
    https://arxiv.org/abs/1611.02731) as released with MAE (Ma et al., 2019, https://arxiv.org/abs/1901.01498).

    A block is two flows of opposite order. The density takes one pass,
    ``eps = mean(z) + z exp(logvar(z) / 2)``, ``log p(z) = log N(eps; 0, I) + sum_d logvar_d / 2`` a flow, in each block
    last-to-first before first-to-last; sampling takes ``D`` passes a flow. It has no analytic rate against a Gaussian.

    Args:
        latent_shape: Shape ``D`` of one latent; a spatial one is flattened in row-major order.
        blocks: Pairs of flows.
        hidden: Width of the hidden layers; None for ten times the latent size.
        hidden_layers: Hidden layers of each MADE.
        weight_norm: Normalize weights, and initialize them from draws of ``N(0, I)``.
    """

    zeros: Tensor

    def __init__(
        self,
        latent_shape: tuple[int, ...],
        blocks: int = 2,
        hidden: int | None = None,
        hidden_layers: int = 1,
        weight_norm: bool = True,
    ) -> None:
        super().__init__()
        size = math.prod(latent_shape)
        width = 10 * size if hidden is None else hidden
        flows: list[LazyTransform] = []
        if len(latent_shape) != 1:
            flows.append(UnconditionalTransform(ReshapeTransform, tuple(latent_shape), (size,)))
        for _ in range(blocks):
            flows.append(AutoregressiveAffine(size, width, hidden_layers, reverse=True, weight_norm=weight_norm))
            flows.append(AutoregressiveAffine(size, width, hidden_layers, reverse=False, weight_norm=weight_norm))
        self.transform = LazyComposedTransform(*flows)
        self.register_buffer("zeros", torch.zeros(size), persistent=False)

    def forward(self) -> NormalizingFlow:
        """Return ``p(z)``, batch ``[]``, event ``D``; ``rsample`` carries gradients to the flow's parameters."""
        return NormalizingFlow(self.transform(), DiagonalNormal(self.zeros, self.zeros))

    def initialize(self, x: Tensor) -> None:
        """Give the outputs of all layers mean 0 and standard deviation 0.1: the flow starts near the identity.

        Salimans and Kingma, Weight Normalization (2016), eq. 6, https://arxiv.org/abs/1602.07868, at the scale of
        MAE's released code. A prior is initialized before there are latents to see, so 500 draws of ``N(0, I)``, which
        the posterior's rate draws it to, stand in for them; of the data ``x`` nothing is used.
        """
        z = torch.randn(_INITIAL_SAMPLES, self.zeros.numel(), dtype=self.zeros.dtype, device=self.zeros.device)
        event_shape = self().event_shape
        initialize_from_data(self, lambda: self().log_prob(z.view(-1, *event_shape)), _INITIAL_SCALE)


class AutoregressivePriorConfig(PriorConfig):
    """An autoregressive flow: VLAE (Chen et al., 2017), section 3.2, https://arxiv.org/abs/1611.02731, as in MAE (Ma
    et al., 2019), https://arxiv.org/abs/1901.01498. Needs a Monte Carlo rate, which 'auto' takes.
    """

    type: Literal["autoregressive"] = "autoregressive"
    blocks: PositiveInt = Field(2, description="pairs of flows of opposite order")
    hidden: PositiveInt | None = Field(None, description="width of hidden layers; null: ten times the latent size")
    hidden_layers: PositiveInt = Field(1, description="hidden layers of each masked network")
    weight_norm: bool = Field(True, description="normalize weights and initialize them from samples")

    def build(self, context: BuildContext) -> AutoregressivePrior:
        """Return the prior."""
        return AutoregressivePrior(context.latent_shape, self.blocks, self.hidden, self.hidden_layers, self.weight_norm)
