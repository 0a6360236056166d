"""MIM's objectives and its entropy regularizer as components of a pipeline."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator
from torch import nn
from uncollapse.config import (
    BuildContext,
    Installed,
    ObjectiveConfig,
    PriorConfig,
    RegularizerConfig,
    ScheduleConfig,
)

from .densities import DecodeDensity, LatentDensity, data_density
from .functional import Baseline, Halves, Warmup
from .objectives import AMIM, MIM, Decoded, Gradient, LossName, When
from .regularizer import JointEntropy

__all__ = ["AMIMConfig", "JointEntropyConfig", "MIMConfig"]


class _EncodeFields(ObjectiveConfig):
    q_x: Annotated[PriorConfig, Installed("prior")] | None = Field(
        None,
        description="density of the data: any installed prior, built over the data's space, learned (parameterized) or "
        "fixed (mim.mixture: anchored); null for the decoder's marginal, eq. 23",
    )
    beta: Annotated[ScheduleConfig, Installed("schedule", number="constant")] = Field(
        default=1.0, validate_default=True, description="weight of the warm-up: a number or a schedule from 0 to 1"
    )
    warmup: Warmup = Field(
        "paper",
        description="what beta weights. paper: log q(x) and log p(z), eq. 12; released_toy: log q(z|x) and log q(x); "
        "released_image: these and the topmost level of log p(z)",
    )
    loss: LossName = Field(
        "mim", description="mim: eq. 22; cross_entropy: eq. 7; mim_minus_entropy: appendix E.1, made to collapse"
    )
    p_z: LatentDensity = Field("model", description="model: the prior; marginal: the average of q(z|x) over q(x)")
    samples: PositiveInt = Field(1, description="draws of the posterior per example")

    @field_validator("beta")
    @classmethod
    def _from_0_to_1(cls, schedule: ScheduleConfig) -> ScheduleConfig:
        for name in ("value", "start", "end"):
            weight = getattr(schedule, name, 0.0)
            if not 0 <= weight <= 1:
                raise ValueError(f"{name}: expected a weight from 0 to 1, found {weight:g}")
        return schedule

    @model_validator(mode="after")
    def _one_marginal(self) -> Self:
        if self.p_z == "marginal" and self.q_x is None:
            raise ValueError("p_z: marginal averages over q(x), so q_x must be a density; give one or leave p_z out")
        return self

    def _q_x(self, context: BuildContext) -> nn.Module | None:
        return None if self.q_x is None else data_density(self.q_x, context)


class AMIMConfig(_EncodeFields):
    """Asymmetric MIM, encoded pairs only: Livne et al., MIM (2019), appendix C.3, https://arxiv.org/abs/1910.03175."""

    type: Literal["mim.amim"] = "mim.amim"

    def build(self, context: BuildContext) -> AMIM:
        """Return the objective.

        Raises:
            ConfigError: ``q_x`` is a density over real numbers and the data are discrete.
        """
        beta = self.beta.build(context)
        return AMIM(self._q_x(context), beta, self.warmup, self.loss, self.p_z, self.samples)


class MIMConfig(_EncodeFields):
    """Mutual Information Machine: Livne et al. (2019), eq. 8, 12 and 22, algorithm 2, https://arxiv.org/abs/1910.03175."""

    type: Literal["mim.mim"] = "mim.mim"
    halves: Halves = Field("average", description="average: algorithm 2; sum: as the released codes")
    decode_half: When = Field(
        "always", description="always; after_warmup: once beta has its final value, as the released codes"
    )
    decode_q_x: DecodeDensity = Field(
        "generating",
        description="with the marginal q(x), its estimate for decoded data. generating: log p(x|z) of the z that made "
        "them, algorithm 2, line 10; reencoded: importance sampling with a fresh z, as the released toy code",
    )
    anchor: Annotated[PriorConfig, Installed("prior")] | None = Field(
        default="standard_normal",
        validate_default=True,
        description="P(z), which decoded pairs start from: any installed prior, held fixed; null for the model's own "
        "prior, as the released image code",
    )
    decode_examples: PositiveInt | None = Field(None, description="decoded pairs of a step; null for a batch of them")
    decoded: Decoded = Field(
        "sample",
        description="sample of the decoder; or its mean without gradient, as released for binary data",
    )
    gradient: Gradient = Field(
        "auto",
        description="of the decode half through x. auto: reparameterized where the likelihood can, else REINFORCE; "
        "reinforce; detach: none, which is biased",
    )
    baseline: Baseline = Field("none", description="of REINFORCE: none as in the paper, or leave_one_out")

    @model_validator(mode="after")
    def _baseline_counts(self) -> Self:
        if self.baseline != "none" and self.gradient == "detach":
            raise ValueError("baseline: belongs to REINFORCE, which gradient: detach leaves out; drop one of them")
        return self

    def build(self, context: BuildContext) -> MIM:
        """Return the objective.

        Raises:
            ConfigError: ``q_x`` is a density over real numbers and the data are discrete.
        """
        anchor: nn.Module | None = None
        if self.anchor is not None:
            # External to the model, so it learns nothing, whatever it is made of.
            anchor = self.anchor.build(context).requires_grad_(False)
        return MIM(
            self._q_x(context),
            self.beta.build(context),
            self.warmup,
            self.loss,
            self.p_z,
            self.samples,
            halves=self.halves,
            decode_half=self.decode_half,
            decode_q_x=self.decode_q_x,
            anchor=anchor,
            decode_examples=self.decode_examples,
            decoded=self.decoded,
            gradient=self.gradient,
            baseline=self.baseline,
        )


class JointEntropyConfig(RegularizerConfig):
    """Joint entropy of the encoding distribution, "VAE+H": Livne et al. (2019), appendix E.1, figure 7,
    https://arxiv.org/abs/1910.03175.
    """

    type: Literal["mim.joint_entropy"] = "mim.joint_entropy"
    weight: float = Field(1.0, gt=0, description="weight of the entropy; the paper adds it as it is")
    q_x: Annotated[PriorConfig, Installed("prior")] | None = Field(
        None, description="density of the data: any installed prior over the data's space; null: the decoder's marginal"
    )

    def build(self, context: BuildContext) -> JointEntropy:
        """Return the regularizer.

        Raises:
            ConfigError: ``q_x`` is a density over real numbers and the data are discrete, or a VampPrior.
        """
        return JointEntropy(self.weight, None if self.q_x is None else data_density(self.q_x, context))
