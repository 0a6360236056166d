"""delta-VAE on independent latents: moments that cannot come closer to the prior than a committed rate."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat
from torch import Tensor, nn
from uncollapse.config import BuildContext, MomentTransformConfig
from uncollapse.distributions import DiagonalNormal, kl_per_dimension, standard_normal
from uncollapse.protocols import Progress

from .functional import delta_moments

__all__ = ["DeltaMoments", "DeltaMomentsConfig"]


class DeltaMoments(nn.Module):
    """Moments at least ``delta`` nats from ``N(0, 1)`` in every latent dimension: Razavi et al., Preventing Posterior
    Collapse with delta-VAEs (2019), on independent latents, https://arxiv.org/abs/1901.03416.

    See :func:`~uncollapse_baselines.functional.delta_moments`. The promise is about the standard normal prior.

    Args:
        delta: Committed nats of each dimension.
    """

    def __init__(self, delta: float = 0.1) -> None:
        super().__init__()
        self.delta = delta

    def forward(self, mean: Tensor, logvar: Tensor, progress: Progress | None = None) -> tuple[Tensor, Tensor]:
        """Return the constrained moments ``[B, *D]``."""
        return delta_moments(mean, logvar, self.delta)

    def broken(self, q: DiagonalNormal) -> str:
        """Return in what a posterior breaks the promise: the rate of a dimension; empty where it keeps it."""
        least = kl_per_dimension(q, standard_normal(tuple(q.event_shape), q.mean.device)).min().item()
        return (
            "" if least > self.delta * (1 - 1e-3) else f"a dimension has {least:.4g} nats, committed are {self.delta:g}"
        )


class DeltaMomentsConfig(MomentTransformConfig):
    """delta-VAE with independent latents: Razavi et al. (2019), https://arxiv.org/abs/1901.03416; needs the prior
    standard_normal.
    """

    type: Literal["baselines.delta"] = "baselines.delta"
    delta: PositiveFloat = Field(0.1, description="committed nats of each latent dimension")

    def build(self, context: BuildContext) -> DeltaMoments:
        """Return the transform."""
        return DeltaMoments(self.delta)
