"""The standard normal prior."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ..component import BuildContext
from ..distributions import StandardNormal
from ..kinds import PriorConfig

__all__ = ["StandardNormalPrior", "StandardNormalPriorConfig"]


class StandardNormalPrior(nn.Module):
    """``p(z) = N(0, I)``: Kingma and Welling (2014), appendix B, https://arxiv.org/abs/1312.6114.

    Args:
        latent_shape: Shape ``D`` of one latent.
    """

    zeros: Tensor

    def __init__(self, latent_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("zeros", torch.zeros(latent_shape), persistent=False)

    def forward(self) -> StandardNormal:
        """Return ``p(z)``, batch ``[]``, event ``D``."""
        return StandardNormal(self.zeros)


class StandardNormalPriorConfig(PriorConfig):
    """``N(0, I)``: Kingma and Welling (2014), appendix B, https://arxiv.org/abs/1312.6114."""

    type: Literal["standard_normal"] = "standard_normal"

    def build(self, context: BuildContext) -> StandardNormalPrior:
        """Return the prior."""
        return StandardNormalPrior(context.latent_shape)
