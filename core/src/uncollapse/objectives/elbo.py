"""The evidence lower bound, with a scheduled weight on the rate and free bits."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor

from ..component import BuildContext
from ..config.installed import Installed
from ..errors import ConfigError
from ..inference import Inference, RateMode
from ..kinds import ObjectiveConfig, ScheduleConfig
from ..model import LatentVariableModel
from ..protocols import Batch, Loss, Progress, Schedule
from ..schedules.schedules import ConstantSchedule, ConstantScheduleConfig
from .free_bits import FreeBits, FreeBitsVariant, free_bits

__all__ = ["ELBO", "ELBOConfig", "ReconstructionConfig"]


class ELBO:
    """The negative evidence lower bound, ``distortion + weight * rate``, in nats per example.

    Kingma and Welling, Auto-Encoding Variational Bayes (2014), eq. 3, https://arxiv.org/abs/1312.6114; with a
    constant weight, Higgins et al., beta-VAE (2017), eq. 4.

    Args:
        rate_weight: Weight of the rate, a number or a schedule.
        free_bits: Floor under the rate, before weighting; None for none.
        rate: Analytic, Monte Carlo, or analytic where known.
        samples: Draws of the posterior per example, ``S``.
    """

    def __init__(
        self,
        rate_weight: float | Schedule = 1.0,
        free_bits: FreeBits | None = None,
        rate: RateMode = "auto",
        samples: int = 1,
    ) -> None:
        self.rate_weight: Schedule = rate_weight if callable(rate_weight) else ConstantSchedule(rate_weight)
        self.free_bits = free_bits
        self.rate = rate
        self.samples = samples

    def __call__(self, model: LatentVariableModel, batch: Batch, progress: Progress) -> Loss:
        """Return the loss, with terms ``elbo``, ``rate`` and ``distortion`` per example ``[B]``."""
        inference = model(batch.x, samples=self.samples, progress=progress)
        rate, distortion = inference.rate(self.rate), inference.distortion
        weight = self.rate_weight(progress)
        bound = distortion + rate
        if weight == 0:
            total = distortion.mean()
        elif weight == 1 and not self._has_floor(progress):
            total = bound.mean()
        else:
            total = distortion.mean() + weight * self._floored(inference, rate, progress)
        return Loss(
            total=total,
            terms={"elbo": -bound, "distortion": distortion, "rate": rate},
            inference=inference,
            weights={"rate_weight": weight},
        )

    def _has_floor(self, progress: Progress) -> bool:
        # Evaluation compares models, so it is done at the true rate (MAE's released code validates with free bits 0).
        return self.free_bits is not None and self.free_bits.nats > 0 and not progress.final

    def _floored(self, inference: Inference, rate: Tensor, progress: Progress) -> Tensor:
        floor = self.free_bits
        if floor is None or not self._has_floor(progress):
            return rate.mean()
        # A floor under the batch's mean is not linear in it, so it stands under the mean of the global batch.
        couples = floor.variant.startswith("batch")
        if floor.variant.endswith("total"):
            return free_bits(inference.gather(rate) if couples else rate, floor.nats, floor.variant)
        rates = inference.rate_per_dimension(self.rate)
        if rates is None:
            raise ConfigError(
                f"objective.free_bits.variant: {floor.variant!r} needs a rate of every dimension, but the "
                f"posterior is {type(inference.q).__name__}, the prior {type(inference.p_z).__name__} and "
                f"objective.rate {self.rate!r}; use 'batch_total' or 'example_total'"
            )
        return free_bits(inference.gather(rates) if couples else rates, floor.nats, floor.variant)


class FreeBitsConfig(BaseModel):
    """A floor under the rate: Kingma et al. (2016), eq. 15, and the variants that released codes use."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    nats: float = Field(ge=0, description="floor in nats: of the whole latent (total) or of each dimension")
    variant: FreeBitsVariant = Field(
        "batch_total",
        description="what the floor is under: the batch's mean or each example, of the total or per dimension",
    )


class ELBOConfig(ObjectiveConfig):
    """The evidence lower bound: Kingma and Welling (2014), eq. 3, https://arxiv.org/abs/1312.6114."""

    type: Literal["elbo"] = "elbo"
    rate_weight: Annotated[ScheduleConfig, Installed("schedule", number="constant")] = Field(
        default=ConstantScheduleConfig(value=1.0), description="weight of the rate: a number or a schedule"
    )
    free_bits: FreeBitsConfig | None = Field(
        None, description="floor under the rate in training, before weighting; null for none"
    )
    rate: RateMode = Field("auto", description="analytic, monte_carlo, or auto: analytic where known")
    samples: int = Field(1, ge=1, description="draws of the posterior per example")

    @field_validator("rate_weight")
    @classmethod
    def _not_negative(cls, schedule: ScheduleConfig) -> ScheduleConfig:
        for name in ("value", "start", "end"):
            weight = getattr(schedule, name, 0.0)
            if weight < 0:
                raise ValueError(f"{name}: expected a weight of at least 0, found {weight:g}")
        return schedule

    def build(self, context: BuildContext) -> ELBO:
        """Return the objective."""
        floor = None if self.free_bits is None else FreeBits(self.free_bits.nats, self.free_bits.variant)
        return ELBO(self.rate_weight.build(context), floor, self.rate, self.samples)


class ReconstructionConfig(ObjectiveConfig):
    """The distortion alone, whose rate has the weight 0; regularizers add their divergence to it: Zhao et al., InfoVAE
    (2017), eq. 2, https://arxiv.org/abs/1706.02262v1.
    """

    type: Literal["reconstruction"] = "reconstruction"
    samples: int = Field(1, ge=1, description="draws of the posterior per example")

    def build(self, context: BuildContext) -> ELBO:
        """Return the objective."""
        return ELBO(0.0, samples=self.samples)
