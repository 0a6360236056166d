"""The autoregressive-flow prior over maps."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, PositiveInt, field_validator
from torch import Tensor, nn
from uncollapse.config import BuildContext, PriorConfig
from uncollapse.distributions import DiagonalNormal
from uncollapse.errors import ShapeError
from uncollapse_images.weight_norm import initialize_from_data

from ..flows import AutoregressiveConvAffine, LazyComposedTransform, NormalizingFlow

__all__ = ["AutoregressiveConvPrior", "AutoregressiveConvPriorConfig"]

_INITIAL_SAMPLES = 100
_INITIAL_SCALE = 0.1
_WIDTH = 8


class AutoregressiveConvPrior(nn.Module):
    """``p(z)`` over maps ``(C, H, W)`` by autoregressive flows of masked convolutions: Ma et al., MAE (2019), appendix
    B.2, https://arxiv.org/abs/1901.01498, as released.

    A block is two flows of opposite order, in the density last-to-first before first-to-last. The density takes one
    pass over the maps a flow, ``eps = mean(z) + z exp(logvar(z) / 2)``; a sample visits the positions one by one in
    every flow, and all channels of a position together. It has no analytic rate against a Gaussian, and none for each
    dimension.

    The paper's prior has 8 flows of "3-layer masked CNNs with 128 feature maps" for 16 maps of 8x8, which is
    ``blocks=4``. Its released configuration has three hidden layers, so four convolutions in a row.

    Args:
        latent_shape: Shape ``(C, H, W)`` of one latent.
        blocks: Pairs of flows.
        hidden: Channels of the hidden layers; None for eight times the latent's.
        hidden_layers: Hidden layers of each network.
        kernel_size: Odd size of every kernel.

    Raises:
        ShapeError: The latent is not made of maps.
    """

    zeros: Tensor

    def __init__(
        self,
        latent_shape: tuple[int, ...],
        blocks: int = 4,
        hidden: int | None = None,
        hidden_layers: int = 3,
        kernel_size: int = 3,
    ) -> None:
        super().__init__()
        if len(latent_shape) != 3:
            raise ShapeError(
                f"model.prior: 'autoregressive_conv' is for latents of maps (C, H, W), found latents of shape "
                f"{tuple(latent_shape)}; give model.posterior.latent_dim as [C, H, W], or use the prior "
                "'autoregressive'"
            )
        channels = latent_shape[0]
        width = _WIDTH * channels if hidden is None else hidden
        self.transform = LazyComposedTransform(
            *(
                AutoregressiveConvAffine(channels, width, hidden_layers, kernel_size, reverse)
                for _ in range(blocks)
                for reverse in (True, False)
            )
        )
        self.register_buffer("zeros", torch.zeros(latent_shape), persistent=False)

    def forward(self) -> NormalizingFlow:
        """Return ``p(z)``, batch ``[]``, event ``(C, H, W)``; ``rsample`` carries gradients to the parameters."""
        return NormalizingFlow(self.transform(), DiagonalNormal(self.zeros, self.zeros, event_dim=3))

    def initialize(self, x: Tensor) -> None:
        """Give the outputs of all layers mean 0 and standard deviation 0.1: the flow starts near the identity.

        Salimans and Kingma, Weight Normalization (2016), eq. 6, https://arxiv.org/abs/1602.07868, at the scale of
        MAE's released code. A prior is initialized before there are latents to see, so 100 draws of ``N(0, I)``, each
        of ``H * W`` positions, stand in for them; of the data ``x`` nothing is used.
        """
        z = torch.randn(_INITIAL_SAMPLES, *self.zeros.shape, dtype=self.zeros.dtype, device=self.zeros.device)
        initialize_from_data(self, lambda: self().log_prob(z), _INITIAL_SCALE)


class AutoregressiveConvPriorConfig(PriorConfig):
    """Autoregressive flows of masked convolutions, for latents of maps: Ma et al., MAE (2019), appendix B.2,
    https://arxiv.org/abs/1901.01498. Needs a Monte Carlo rate, which 'auto' takes.
    """

    type: Literal["autoregressive_conv"] = "autoregressive_conv"
    blocks: PositiveInt = Field(4, description="pairs of flows of opposite order")
    hidden: PositiveInt | None = Field(None, description="channels of hidden layers; null: eight times the latent's")
    hidden_layers: PositiveInt = Field(3, description="hidden layers of each masked network")
    kernel_size: PositiveInt = Field(3, ge=3, description="odd size of every kernel")

    @field_validator("kernel_size")
    @classmethod
    def _odd(cls, size: int) -> int:
        if size % 2 == 0:
            raise ValueError(f"a kernel size must be odd so that a kernel has a centre, found {size}; try {size + 1}")
        return size

    def build(self, context: BuildContext) -> AutoregressiveConvPrior:
        """Return the prior.

        Raises:
            ShapeError: The latent is not made of maps.
        """
        return AutoregressiveConvPrior(
            context.latent_shape, self.blocks, self.hidden, self.hidden_layers, self.kernel_size
        )
