"""The diagonal Gaussian posterior, with moment transforms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from ..component import BuildContext
from ..config.installed import Installed
from ..distributions import DiagonalNormal
from ..errors import ShapeError
from ..kinds import MomentTransformConfig, PosteriorConfig
from ..protocols import Progress

__all__ = ["GaussianPosterior", "GaussianPosteriorConfig"]


class GaussianPosterior(nn.Module):
    """``q(z|x) = N(mean, diag(exp(logvar)))`` with linear heads: Kingma and Welling (2014), eq. 9,
    https://arxiv.org/abs/1312.6114.

    Features whose trailing shape already is ``(2C, *rest)`` of a spatial latent ``(C, *rest)`` are split into mean
    and log-variance without a linear layer, as MAE's colour encoder does.

    Args:
        feature_shape: Shape ``H`` of the encoder's features.
        latent_shape: Shape ``D`` of one latent.
        moments: Transforms applied in order to ``(mean, logvar)``.
        logvar_range: Hard limits on the log-variance (VampPrior [-6, 2], MAE's colour encoders [-7, 7]), or None.
        bias: Whether the linear head has a bias; those of the released text models of He et al., Lagging Inference
            Networks (2019), https://arxiv.org/abs/1901.05534, and of DU-VAE have none.
        init_range: The head starts in ``U(-init_range, init_range)``, 0.01 in He et al.'s code; None for torch's own.

    Raises:
        ShapeError: A spatial latent does not match the features.
    """

    def __init__(
        self,
        feature_shape: tuple[int, ...],
        latent_shape: tuple[int, ...],
        moments: Sequence[nn.Module] = (),
        logvar_range: tuple[float, float] | None = None,
        bias: bool = True,
        init_range: float | None = None,
    ) -> None:
        super().__init__()
        self.latent_shape = tuple(latent_shape)
        self.moments = nn.ModuleList(moments)
        self.logvar_range = logvar_range
        spatial = len(self.latent_shape) > 1
        if spatial:
            needed = (2 * self.latent_shape[0], *self.latent_shape[1:])
            if tuple(feature_shape) != needed:
                raise ShapeError(
                    f"model.posterior.latent_dim: a latent of shape {self.latent_shape} needs encoder features of "
                    f"shape {needed}, found {tuple(feature_shape)}; change the encoder's output or use a flat latent"
                )
        self.head: nn.Module = nn.Identity()
        if not spatial:
            self.head = nn.Linear(math.prod(feature_shape), 2 * self.latent_shape[0], bias)
        if init_range is not None:
            for parameter in self.head.parameters():
                nn.init.uniform_(parameter, -init_range, init_range)

    def forward(self, h: Tensor, progress: Progress | None = None) -> DiagonalNormal:
        """Return ``q(z|x)``, batch ``[B]``, event ``D``, for features ``h [B, *H]``."""
        return self.constrained(*self.proposed(h), progress)

    def proposed(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance ``[B, *D]`` as the head has them, without limits and transforms."""
        if len(self.latent_shape) == 1 and h.dim() > 2:
            h = h.flatten(1)
        mean, logvar = self.head(h).chunk(2, dim=1)
        return (mean.float(), logvar.float()) if mean.dtype in (torch.bfloat16, torch.float16) else (mean, logvar)

    def constrained(self, mean: Tensor, logvar: Tensor, progress: Progress | None = None) -> DiagonalNormal:
        """Return the posterior of such moments ``[B, *D]``: inside the limits, and what the transforms make of them."""
        if self.logvar_range is not None:
            logvar = nn.functional.hardtanh(logvar, *self.logvar_range)
        for transform in self.moments:
            mean, logvar = transform(mean, logvar, progress)
        return DiagonalNormal(mean, logvar, event_dim=len(self.latent_shape))


class GaussianPosteriorConfig(PosteriorConfig):
    """A diagonal Gaussian: Kingma and Welling (2014), eq. 9, https://arxiv.org/abs/1312.6114."""

    type: Literal["gaussian"] = "gaussian"
    latent_dim: PositiveInt | tuple[PositiveInt, ...] = Field(
        description="latent dimension D, or a shape [C, H, W]", examples=[16]
    )
    moments: tuple[Annotated[MomentTransformConfig, Installed("moment_transform")], ...] = Field(
        (), description="transforms of mean and log-variance, applied in order before a draw"
    )
    logvar_range: tuple[float, float] | None = Field(None, description="hard limits on the log-variance")
    bias: bool = Field(
        True, description="whether the head has a bias; those of the lagging encoder and DU-VAE have none"
    )
    init_range: PositiveFloat | None = Field(
        None,
        description="the head starts uniform in plus or minus this, 0.01 for the lagging encoder; null: torch's own",
    )

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape ``D`` of one latent."""
        return (self.latent_dim,) if isinstance(self.latent_dim, int) else tuple(self.latent_dim)

    def build(self, context: BuildContext) -> GaussianPosterior:
        """Return the posterior."""
        moments = [m.build(context) for m in self.moments]
        return GaussianPosterior(
            context.feature_shape, self.latent_shape, moments, self.logvar_range, self.bias, self.init_range
        )
