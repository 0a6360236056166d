"""The pipeline: everything about a run, as data."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, field_validator, model_validator

from ..kinds import (
    DataConfig,
    DecoderConfig,
    EncoderConfig,
    EstimatorConfig,
    LearningRateConfig,
    ObjectiveConfig,
    ObserverConfig,
    OptimizerConfig,
    PosteriorConfig,
    PriorConfig,
    ProbeConfig,
    RegularizerConfig,
    ScheduleConfig,
    StrategyConfig,
)
from .installed import Installed

__all__ = ["EarlyStoppingConfig", "EvaluationConfig", "ModelConfig", "PipelineConfig", "TrainingConfig", "schedules_in"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class ModelConfig(_Section):
    """The four parts of the model."""

    encoder: Annotated[EncoderConfig, Installed("encoder")] = Field(description="data to features")
    posterior: Annotated[PosteriorConfig, Installed("posterior")] = Field(description="features to q(z|x)")
    prior: Annotated[PriorConfig, Installed("prior")] = Field(
        default="standard_normal", validate_default=True, description="p(z)"
    )
    decoder: Annotated[DecoderConfig, Installed("decoder")] = Field(description="latents to p(x|z)")
    initialization: Literal["he_normal"] | None = Field(
        None,
        description="how linear and convolutional layers of encoder, posterior and decoder start; he_normal: weights "
        "N(0, 2 / inputs), biases 0; null: as each part has it",
    )


class EarlyStoppingConfig(_Section):
    """Stop when the validation loss, at every schedule's final value, has not improved for a while."""

    patience: PositiveInt = Field(description="validations without improvement before the run stops")
    min_delta: float = Field(0.0, ge=0, description="smallest improvement that counts, nats")


class TrainingConfig(_Section):
    """How the model is trained."""

    epochs: PositiveInt = Field(30, description="passes over the training data")
    optimizer: Annotated[OptimizerConfig, Installed("optimizer")] = Field(
        default="adam", validate_default=True, description="what steps the parameters"
    )
    learning_rate: Annotated[LearningRateConfig, Installed("learning_rate")] | None = Field(
        None, description="factor on the optimizer's rate over the run; null for constant"
    )
    strategy: Annotated[StrategyConfig, Installed("strategy")] | None = Field(
        None, description="what a batch does to the model; null: one joint step of everything"
    )
    drop_last: bool = Field(
        True, description="leave out an epoch's last short batch, so that every step sees the same number of pairs"
    )
    gradient_clip: PositiveFloat | None = Field(None, description="largest global gradient norm; null for none")
    polyak: float | None = Field(None, gt=0, lt=1, description="decay of the averaged weights used for evaluation")
    early_stopping: EarlyStoppingConfig | None = Field(
        None, description="when to stop before the last epoch; null: never"
    )
    observers: tuple[Annotated[ObserverConfig, Installed("observer")], ...] = Field(
        (), description="what is trained beside the model on detached quantities"
    )
    precision: Literal["fp32", "bf16"] = Field("fp32", description="bf16: mixed precision through Accelerate")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto: a GPU where there is one")
    compile: bool = Field(False, description="torch.compile the training step")
    initialize_examples: PositiveInt = Field(256, description="examples for data-dependent initialization")
    monitor: Literal["loss", "elbo", "last"] = Field(
        "loss",
        description="validation value that picks the best checkpoint and drives early stopping and plateaus; last: the "
        "last checkpoint counts as the best, and the loss drives the rest",
    )
    validate_every: PositiveInt = Field(1, description="epochs between validations")
    checkpoint_every_epochs: PositiveInt = Field(1, description="epochs between checkpoints")
    checkpoint_every_steps: PositiveInt | None = Field(None, description="additional checkpoints inside an epoch")
    log_every: PositiveInt = Field(50, description="steps between rows of metrics.jsonl and TensorBoard events")


class EvaluationConfig(_Section):
    """What is measured once the model is trained."""

    split: Literal["train", "validation", "test"] = Field("test", description="what is measured on")
    batch_size: PositiveInt = Field(256, description="examples of one pass through the model")
    examples: PositiveInt | None = Field(
        None, description="use only so many examples of the split, drawn at random; null for all"
    )
    estimators: tuple[Annotated[EstimatorConfig, Installed("estimator")], ...] = Field(
        (), description="what is measured on the model"
    )
    probes: tuple[Annotated[ProbeConfig, Installed("probe")], ...] = Field(
        (), description="classifiers and clusterings that read the codes"
    )
    codes: str = Field("mean", description="what probes get of a posterior: its mean, or codes that it names itself")
    code_samples: int = Field(0, ge=0, description="posterior samples averaged into a code for probes; 0: the mean")

    @model_validator(mode="after")
    def _one_code(self) -> EvaluationConfig:
        if self.codes != "mean" and self.code_samples:
            raise ValueError(f"code_samples: are averages of samples, found codes: {self.codes}; leave one of them out")
        return self


class PipelineConfig(_Section):
    """A whole run: data, model, objective, regularizers, training and evaluation."""

    name: str = Field(description="names the run directory")
    description: str = Field("", description="what the run is for; shown on its report")
    seed: int = Field(0, ge=0, lt=2**31, description="of weights, order of batches and noise; splits have their own")
    data: Annotated[DataConfig, Installed("data")] = Field(description="where examples come from")
    model: ModelConfig = Field(description="encoder, posterior, prior and decoder")
    objective: Annotated[ObjectiveConfig, Installed("objective")] = Field(
        default="elbo", validate_default=True, description="what a step minimises"
    )
    regularizers: tuple[Annotated[RegularizerConfig, Installed("regularizer")], ...] = Field(
        (), description="penalties added to the objective"
    )
    # A factory: the section's own defaults are looked up among the installed components, which import this package.
    training: TrainingConfig = Field(default_factory=TrainingConfig, description="how the model is trained")
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="what is measured after training")

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
            raise ValueError(f"a name has letters, digits, '.', '_' and '-' only and starts with one, found {name!r}")
        return name

    @model_validator(mode="after")
    def _schedules_fit(self) -> PipelineConfig:
        for place, schedule in schedules_in(self):
            if schedule.epochs() > self.training.epochs:
                raise ValueError(
                    f"{place}: the schedule reaches its end after {schedule.epochs():g} epochs, but training.epochs is "
                    f"{self.training.epochs}, so the final value is never used; shorten the schedule or train longer"
                )
        return self


def schedules_in(config: BaseModel, place: str = "") -> list[tuple[str, ScheduleConfig]]:
    """Return every schedule inside ``config`` with its path, ``objective.rate_weight`` say."""
    found: list[tuple[str, ScheduleConfig]] = []
    for name in type(config).model_fields:
        value = getattr(config, name)
        path = f"{place}.{name}" if place else name
        items = [(f"{path}.{i}", v) for i, v in enumerate(value)] if isinstance(value, tuple) else [(path, value)]
        for where, item in items:
            if isinstance(item, ScheduleConfig):
                found.append((where, item))
            elif isinstance(item, BaseModel):
                found.extend(schedules_in(item, where))
    return found
