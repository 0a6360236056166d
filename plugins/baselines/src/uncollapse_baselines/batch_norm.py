"""BN-VAE: batch-normalized posterior means with a fixed scale."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor, nn
from uncollapse.config import BuildContext, MomentTransformConfig
from uncollapse.distributions import DiagonalNormal, kl_per_dimension, standard_normal
from uncollapse.protocols import Progress

from .normalized_moments import BatchNormalized

__all__ = ["BatchNormMeans", "BatchNormMeansConfig"]


class BatchNormMeans(BatchNormalized):
    """``gamma (mean - batch mean) / batch deviation + beta`` with ``gamma`` fixed and ``beta`` learned, per latent
    dimension: Zhu et al., A Batch Normalized Inference Network Keeps the KL Vanishing Away (2020), section 3,
    https://arxiv.org/abs/2004.12585.

    The batch's mean rate is then at least ``n (gamma² + beta²) / 2`` nats for ``n`` dimensions, but for ``eps``. In
    training the statistics are those of the global batch, in evaluation running ones.

    Args:
        latent_shape: Shape ``D`` of one latent.
        gamma: Deviation of the means over the data.
        momentum: Weight of a batch in the running statistics.
        eps: Added to the batch's variance.
    """

    def __init__(
        self, latent_shape: tuple[int, ...], gamma: float = 0.5, momentum: float = 0.1, eps: float = 1e-5
    ) -> None:
        super().__init__(latent_shape, momentum, eps, "baselines.batch_norm")
        self.gamma = gamma
        self.beta = nn.Parameter(torch.zeros(self.size))

    def forward(self, mean: Tensor, logvar: Tensor, progress: Progress | None = None) -> tuple[Tensor, Tensor]:
        """Return the normalized means and the log-variances as they are, ``[B, *D]``.

        Raises:
            ShapeError: There is one example only, in training.
        """
        return (self.gamma * self.normalized(mean, progress) + self.beta).view_as(mean), logvar

    def broken(self, q: DiagonalNormal) -> str:
        """Return in what posteriors of a training batch break the promise: their rate; empty where they keep it."""
        rate = kl_per_dimension(q, standard_normal(tuple(q.event_shape), q.mean.device)).flatten(1).sum(1).mean().item()
        # eps takes a little of the variance where a network's means hardly differ.
        least = 0.5 * (self.size * self.gamma**2 * 0.9 + self.beta.square().sum().item())
        return "" if rate > least else f"the batch's rate is {rate:.4g} nats, at least {least:.4g} are promised"


class BatchNormMeansConfig(MomentTransformConfig):
    """BN-VAE: Zhu et al. (2020), section 3, https://arxiv.org/abs/2004.12585."""

    type: Literal["baselines.batch_norm"] = "baselines.batch_norm"
    gamma: PositiveFloat = Field(0.5, description="fixed scale of the means; the rate is at least n gamma² / 2")
    momentum: float = Field(0.1, gt=0, le=1, description="weight of a batch in the running statistics")
    eps: PositiveFloat = Field(1e-5, description="added to the batch's variance")

    def build(self, context: BuildContext) -> BatchNormMeans:
        """Return the transform."""
        return BatchNormMeans(context.latent_shape, self.gamma, self.momentum, self.eps)
