"""Free bits that the core does not have: under groups of latents, and as a target that a weight steers to."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from uncollapse import LatentVariableModel
from uncollapse.config import BuildContext, Installed, ObjectiveConfig, ScheduleConfig
from uncollapse.errors import ConfigError
from uncollapse.protocols import Batch, Loss, Progress, Schedule

from .functional import group_free_bits

__all__ = ["GroupFreeBits", "GroupFreeBitsConfig", "SoftFreeBits", "SoftFreeBitsConfig"]


class GroupFreeBits:
    """The evidence lower bound with a floor under the rate of every group of latents: Kingma et al., Improved
    Variational Inference with Inverse Autoregressive Flow (2016), eq. 15, https://arxiv.org/abs/1606.04934.

    ``distortion + rate_weight * sum_g max(nats, mean_b rate_bg)``: the floor stands under the mean over the global
    batch. Validation has none.

    Args:
        nats: Floor of each group.
        groups: Number of equal parts of the flattened latent; of a spatial latent its channels, the paper's feature
            maps.
        rate_weight: Weight of the rate after the floor; None for 1.
    """

    def __init__(self, nats: float, groups: int, rate_weight: Schedule | None = None) -> None:
        self.nats, self.groups, self.rate_weight = nats, groups, rate_weight

    def __call__(self, model: LatentVariableModel, batch: Batch, progress: Progress) -> Loss:
        """Return the loss, with terms ``elbo``, ``rate`` and ``distortion`` per example ``[B]``.

        Raises:
            ConfigError: The rate does not fall apart into dimensions.
            ShapeError: The groups do not divide the latent.
        """
        inference = model(batch.x, progress=progress)
        rates = inference.rate_per_dimension()
        if rates is None:
            raise ConfigError(
                "objective: baselines.group_free_bits needs a rate of every dimension, but the posterior is "
                f"{type(inference.q).__name__} and the prior {type(inference.p_z).__name__}; use a Gaussian posterior "
                "and prior, or objective elbo with free_bits.variant batch_total"
            )
        rate, distortion = inference.rate(), inference.distortion
        floored = rate.mean() if progress.final else group_free_bits(inference.gather(rates), self.nats, self.groups)
        weight = 1.0 if self.rate_weight is None else self.rate_weight(progress)
        terms = {"elbo": -(distortion + rate), "distortion": distortion, "rate": rate}
        return Loss(distortion.mean() + weight * floored, terms, inference, {"rate_weight": weight})


class GroupFreeBitsConfig(ObjectiveConfig):
    """Free bits of groups of latents: Kingma et al. (2016), eq. 15, https://arxiv.org/abs/1606.04934."""

    type: Literal["baselines.group_free_bits"] = "baselines.group_free_bits"
    nats: float = Field(0.25, ge=0, description="floor under the rate of each group")
    groups: PositiveInt | None = Field(
        None,
        description="equal parts of the flattened latent; null: a spatial latent's channels, or every dimension",
    )
    rate_weight: Annotated[ScheduleConfig, Installed("schedule", number="constant")] | None = Field(
        None, description="weight of the rate after the floor; null for 1"
    )

    def build(self, context: BuildContext) -> GroupFreeBits:
        """Return the objective.

        Raises:
            ConfigError: The groups do not divide the latent.
        """
        groups = self.groups or context.latent_shape[0]
        if context.latent_size % groups:
            raise ConfigError(
                f"objective.groups: {groups} groups do not divide a latent of {context.latent_size} dimensions; choose "
                "a divisor"
            )
        return GroupFreeBits(self.nats, groups, self.rate_weight.build(context) if self.rate_weight else None)


class SoftFreeBits(nn.Module):
    """The evidence lower bound whose rate has a weight that steers it to a target: the soft free bits of Chen et al.,
    Variational Lossy Autoencoder (2017), appendix, https://arxiv.org/abs/1611.02731.

    After a training step whose mean rate is above the target by more than ``tolerance``, the weight is multiplied by
    ``1 + change``; after one below the target, it is divided by that. It stays in ``(0, 1]``: at 1 the objective is the
    bound itself. Unlike under a floor, the rate always has a gradient. Validation has weight 1.

    Args:
        target: Nats that the latent is to carry.
        tolerance: Share of the target by which the rate may exceed it.
        change: Relative change of the weight in a step.
    """

    weight: Tensor

    def __init__(self, target: float, tolerance: float = 0.05, change: float = 0.1) -> None:
        super().__init__()
        self.target, self.tolerance, self.change = target, tolerance, change
        self.register_buffer("weight", torch.ones(()))

    def forward(self, model: LatentVariableModel, batch: Batch, progress: Progress) -> Loss:
        """Return the loss, with terms ``elbo``, ``rate``, ``distortion`` ``[B]`` and ``soft_weight``, a scalar."""
        inference = model(batch.x, progress=progress)
        rate, distortion = inference.rate(), inference.distortion
        weight = torch.ones_like(self.weight) if progress.final else self.weight.clone()
        if self.training and torch.is_grad_enabled() and not progress.final:
            self._steer(inference.gather(rate.detach()).mean())
        terms = {"elbo": -(distortion + rate), "distortion": distortion, "rate": rate, "soft_weight": weight}
        return Loss(distortion.mean() + weight * rate.mean(), terms, inference)

    @torch.no_grad()
    def _steer(self, rate: Tensor) -> None:
        step = 1 + self.change
        above, below = rate > self.target * (1 + self.tolerance), rate < self.target
        factor = torch.where(above, step, torch.where(below, 1 / step, 1.0))
        self.weight.mul_(factor.to(self.weight)).clamp_(max=1)


class SoftFreeBitsConfig(ObjectiveConfig):
    """Soft free bits: Chen et al., Variational Lossy Autoencoder (2017), https://arxiv.org/abs/1611.02731."""

    type: Literal["baselines.soft_free_bits"] = "baselines.soft_free_bits"
    target: PositiveFloat = Field(5.0, description="nats that the latent is to carry")
    tolerance: float = Field(0.05, ge=0, description="share of the target by which the rate may exceed it")
    change: PositiveFloat = Field(0.1, description="relative change of the rate's weight in a step")

    def build(self, context: BuildContext) -> SoftFreeBits:
        """Return the objective."""
        return SoftFreeBits(self.target, self.tolerance, self.change)
