"""Latent clipping, as a moment transform that any Gaussian posterior can use."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, PositiveFloat
from torch import Tensor, nn
from uncollapse.config import BuildContext, MomentTransformConfig
from uncollapse.distributions import DiagonalNormal
from uncollapse.errors import ConfigError
from uncollapse.protocols import Progress

from .functional import clipped

__all__ = ["LatentClipping", "LatentClippingConfig"]


class LatentClipping(nn.Module):
    """Means no longer than ``c`` times the root of the latent dimension: *Bridging the ELBO and MMD* (2019), eq. 5.

    Each example's mean by itself, before sampling, in training and in evaluation. Whatever reads the posterior, the
    mean term of the objective too, sees the clipped mean; the paper does not say which one it takes. Variances stay.

    Args:
        c: 3 for μ-VAE #1, 6 for μ-VAE #2.

    Raises:
        ConfigError: ``c`` is not positive.

    >>> import torch
    >>> LatentClipping(c=3.0)(torch.tensor([[30.0, 40.0, 0.0, 0.0]]), torch.zeros(1, 4))[0]
    tensor([[3.6000, 4.8000, 0.0000, 0.0000]])
    """

    def __init__(self, c: float = 3.0) -> None:
        super().__init__()
        if c <= 0:
            raise ConfigError(f"muvae.latent_clipping: c must be positive; found {c}")
        self.c = c

    def forward(self, mean: Tensor, logvar: Tensor, progress: Progress | None = None) -> tuple[Tensor, Tensor]:
        """Return the clipped mean and the log-variance as it came, both ``[B, *D]``."""
        return clipped(mean, self.c), logvar

    def broken(self, q: DiagonalNormal) -> str:
        """Return in what a posterior breaks the promise: the length of a mean; empty where it keeps it."""
        longest = q.mean.flatten(1).norm(dim=1).max().item()
        limit = self.c * math.sqrt(q.mean[0].numel())
        return "" if longest <= limit * (1 + 1e-5) else f"a mean is {longest:.4g} long, allowed are {limit:.4g}"

    def extra_repr(self) -> str:
        """Return the limit's factor."""
        return f"c={self.c}"


class LatentClippingConfig(MomentTransformConfig):
    """Latent clipping: *Bridging the ELBO and MMD* (2019), eq. 5."""

    type: Literal["muvae.latent_clipping"] = "muvae.latent_clipping"
    c: PositiveFloat = Field(
        3.0, description="longest mean, in roots of the latent dimension: 3 for μ-VAE #1, 6 for #2"
    )

    def build(self, context: BuildContext) -> LatentClipping:
        """Return the transform."""
        return LatentClipping(self.c)
