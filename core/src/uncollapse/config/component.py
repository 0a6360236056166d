"""A component is a pydantic model with a literal ``type``, validated fields, and ``build``."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import PydanticCustomError, core_schema

from ..errors import ConfigError, did_you_mean
from ..protocols import DataSpec, Support

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn

    from ..protocols import DataSource, Estimator, Objective, Observer, Probe, Regularizer, Sampler, Schedule, Strategy

__all__ = ["KINDS", "BuildContext", "ComponentConfig", "Installed"]


@dataclass(frozen=True)
class BuildContext:
    """What a component may know when it is built; nothing global.

    Args:
        data: Shape and support of the data.
        latent_shape: Shape ``D`` of one latent.
        latent_levels: Dimensions of a hierarchy's levels inside the latent, the bottom one first; empty without one.
        feature_shape: Shape ``H`` of the encoder's features; empty until the encoder is built.
        steps_per_epoch: Optimizer steps of one epoch.
        epochs: Length of the run; None outside a run.
        label_names: Name of every class, in the order of the indices; empty where the data have none.
    """

    data: DataSpec
    latent_shape: tuple[int, ...] = ()
    feature_shape: tuple[int, ...] = ()
    steps_per_epoch: int = 1
    epochs: int | None = None
    latent_levels: tuple[int, ...] = ()
    label_names: tuple[str, ...] = ()

    @property
    def latent_size(self) -> int:
        """Numbers in one latent: the product of ``latent_shape``."""
        size = 1
        for n in self.latent_shape:
            size *= n
        return size

    def levels(self, place: str, top_dim: int | None = None) -> tuple[int, ...]:
        """Return the dimensions of the latent's levels, the bottom one first: those of the posterior, one without a
        hierarchy, or what is left and ``top_dim`` of a latent that a posterior without levels has.

        Args:
            place: Where the part that asks stands in a pipeline; opens the message.
            top_dim: Dimension of the top level, where the part has a field of that name.

        Raises:
            ConfigError: ``top_dim`` is not that of the posterior, or leaves nothing for the bottom level.
        """
        if top_dim is None:
            return self.latent_levels or (self.latent_size,)
        if self.latent_levels and self.latent_levels[-1] != top_dim:
            raise ConfigError(
                f"{place}.top_dim: found {top_dim}, but the top level of the posterior has {self.latent_levels[-1]} "
                "dimensions; leave top_dim out, or make both agree"
            )
        if not self.latent_levels and (len(self.latent_shape) != 1 or top_dim >= self.latent_size):
            raise ConfigError(
                f"{place}.top_dim: a top level of {top_dim} dimensions does not fit into a latent of shape "
                f"{self.latent_shape}; allowed: a flat latent of more than {top_dim} dimensions"
            )
        return self.latent_levels or (self.latent_size - top_dim, top_dim)


class ComponentConfig(BaseModel):
    """Base of every component's config.

    A concrete config has a field ``type: Literal["plugin.name"] = "plugin.name"``, says its source (paper and
    equation) in its docstring, and implements ``build``. Unknown fields are errors; instances are frozen.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    kind: ClassVar[str] = ""
    type: str

    @classmethod
    def type_name(cls) -> str:
        """Return the literal that names this component in a pipeline."""
        return str(cls.model_fields["type"].default)


class EncoderConfig(ComponentConfig):
    """Builds an encoder: ``[B, *X] -> [B, *H]``, with ``feature_shape``."""

    kind: ClassVar[str] = "encoder"

    @abstractmethod
    def build(self, context: BuildContext) -> nn.Module:
        """Return the encoder."""


class PosteriorConfig(ComponentConfig):
    """Builds a posterior, and says the shape of its latents before anything is built."""

    kind: ClassVar[str] = "posterior"

    @property
    @abstractmethod
    def latent_shape(self) -> tuple[int, ...]:
        """Shape ``D`` of one latent."""

    @property
    def latent_levels(self) -> tuple[int, ...]:
        """Dimensions of a hierarchy's levels inside the latent, the bottom one first; empty without one."""
        return ()

    @abstractmethod
    def build(self, context: BuildContext) -> nn.Module:
        """Return the posterior."""


class MomentTransformConfig(ComponentConfig):
    """Builds a moment transform: ``(mean, logvar, progress) -> (mean, logvar)``."""

    kind: ClassVar[str] = "moment_transform"

    @abstractmethod
    def build(self, context: BuildContext) -> nn.Module:
        """Return the transform."""


class PriorConfig(ComponentConfig):
    """Builds a prior: ``() -> p(z)``."""

    kind: ClassVar[str] = "prior"

    @abstractmethod
    def build(self, context: BuildContext) -> nn.Module:
        """Return the prior."""


class LikelihoodConfig(ComponentConfig):
    """Builds a likelihood: what turns a decoder's raw output into ``p(x|z)``.

    ``supports`` lists the data supports it accepts.
    """

    kind: ClassVar[str] = "likelihood"
    supports: ClassVar[frozenset[Support]] = frozenset()

    @abstractmethod
    def build(self, context: BuildContext) -> nn.Module:
        """Return the likelihood module, a :class:`~uncollapse.protocols.Likelihood`."""


class DecoderConfig(ComponentConfig):
    """Builds a decoder: ``[..., *D] -> p(x|z)``."""

    kind: ClassVar[str] = "decoder"

    @property
    def supports(self) -> frozenset[Support]:
        """Data supports that the decoder's likelihood accepts; by default those of its field ``likelihood``."""
        likelihood = getattr(self, "likelihood", None)
        return likelihood.supports if isinstance(likelihood, LikelihoodConfig) else frozenset()

    @abstractmethod
    def build(self, context: BuildContext) -> nn.Module:
        """Return the decoder."""


class ObjectiveConfig(ComponentConfig):
    """Builds an objective: ``(model, batch, progress) -> Loss``."""

    kind: ClassVar[str] = "objective"

    @abstractmethod
    def build(self, context: BuildContext) -> Objective:
        """Return the objective."""


class RegularizerConfig(ComponentConfig):
    """Builds a regularizer: ``inference -> Penalty``."""

    kind: ClassVar[str] = "regularizer"

    @abstractmethod
    def build(self, context: BuildContext) -> Regularizer:
        """Return the regularizer."""


class ScheduleConfig(ComponentConfig):
    """Builds a schedule: ``progress -> weight``."""

    kind: ClassVar[str] = "schedule"

    @abstractmethod
    def epochs(self) -> float:
        """Return the epochs after which the value no longer changes; 0 for a constant."""

    @abstractmethod
    def build(self, context: BuildContext) -> Schedule:
        """Return the schedule."""


class EstimatorConfig(ComponentConfig):
    """Builds an estimator: ``(model, batches) -> Estimates``."""

    kind: ClassVar[str] = "estimator"

    @abstractmethod
    def build(self, context: BuildContext) -> Estimator:
        """Return the estimator."""


class ProbeConfig(ComponentConfig):
    """Builds a probe on codes and labels."""

    kind: ClassVar[str] = "probe"

    @abstractmethod
    def build(self, context: BuildContext) -> Probe:
        """Return the probe."""


class SamplerConfig(ComponentConfig):
    """Builds a sampler: ``(model, count) -> x``."""

    kind: ClassVar[str] = "sampler"

    @abstractmethod
    def build(self, context: BuildContext) -> Sampler:
        """Return the sampler."""


class ObserverConfig(ComponentConfig):
    """Builds an observer, trained beside the model on detached quantities."""

    kind: ClassVar[str] = "observer"

    @abstractmethod
    def build(self, context: BuildContext) -> Observer:
        """Return the observer."""


class DataConfig(ComponentConfig):
    """Builds a data source."""

    kind: ClassVar[str] = "data"
    batch_size: int = Field(100, ge=1, description="examples of one optimizer step, over all processes")

    @abstractmethod
    def build(self, seed: int) -> DataSource:
        """Return the source; order of batches and noise follow from ``seed``.

        Raises:
            DataError: The data are missing or unreadable; the message names the folder looked in.
        """

    def rebuild(self, seed: int, artifacts: Path) -> DataSource:
        """Return the source of a run that is there already; by default it is built anew.

        Args:
            seed: As for :meth:`build`.
            artifacts: Folder of what the source gave the run to keep (:class:`~uncollapse.protocols.KeepsArtifacts`).

        Raises:
            DataError: As for :meth:`build`, or the data do not agree with what the run kept.
        """
        return self.build(seed)


class OptimizerConfig(ComponentConfig):
    """Builds an optimizer over parameters."""

    kind: ClassVar[str] = "optimizer"
    lr: float

    @abstractmethod
    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer."""


class LearningRateConfig(ComponentConfig):
    """Builds a learning-rate schedule."""

    kind: ClassVar[str] = "learning_rate"

    @abstractmethod
    def build(self, context: BuildContext) -> Callable[[int], float]:
        """Return ``step -> factor`` on the optimizer's rate."""


class StrategyConfig(ComponentConfig):
    """Builds a training-step strategy: ``(learning, batch, progress) -> Outcome``."""

    kind: ClassVar[str] = "strategy"

    @abstractmethod
    def build(self, context: BuildContext) -> Strategy:
        """Return the strategy."""


KINDS: dict[str, type[ComponentConfig]] = {
    c.kind: c
    for c in (
        DataConfig,
        EncoderConfig,
        PosteriorConfig,
        MomentTransformConfig,
        PriorConfig,
        DecoderConfig,
        LikelihoodConfig,
        ObjectiveConfig,
        RegularizerConfig,
        ScheduleConfig,
        OptimizerConfig,
        LearningRateConfig,
        StrategyConfig,
        ObserverConfig,
        EstimatorConfig,
        ProbeConfig,
        SamplerConfig,
    )
}
"""The base of every kind of component, by the kind's name."""


@dataclass(frozen=True)
class Installed:
    """Annotation of a field that takes any installed component of one kind.

    ``prior: Annotated[PriorConfig, Installed("prior")]`` accepts a mapping whose ``type`` names an installed prior
    (the bare type name for ``shorthand``), or a config instance. The union is looked up when a value is validated,
    so components of every plugin may nest in those of any other.

    Args:
        kind: A key of :data:`KINDS`.
        number: For schedules: the type that a bare number stands for.
    """

    kind: str
    number: str | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.resolve,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
            ),
        )

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"x-uncollapse-kind": self.kind, **({"x-number": True} if self.number else {})}

    def resolve(self, value: Any) -> ComponentConfig:
        """Return the config that ``value`` stands for; the error names what is allowed and the near match."""
        from ..plugins import registry

        if isinstance(value, KINDS[self.kind]):
            return value
        if self.number is not None and isinstance(value, int | float) and not isinstance(value, bool):
            value = {"type": self.number, "value": value}
        if isinstance(value, str):
            value = {"type": value}
        known: Sequence[str] = registry().names(self.kind)
        if not isinstance(value, dict):
            raise PydanticCustomError(
                "component_expected",
                "expected a mapping with 'type' (one of: {known}), found {found}",
                {"known": ", ".join(known), "found": f"{value!r} ({type(value).__name__})"},
            )
        name = value.get("type")
        if name is None:
            raise PydanticCustomError(
                "component_type_missing",
                "'type' is missing; allowed: {known}",
                {"known": ", ".join(known)},
            )
        found = registry().find(self.kind, name) if isinstance(name, str) else None
        if found is None:
            raise PydanticCustomError(
                "component_unknown",
                "unknown {kind} type {name}{near}; installed: {known}{broken}",
                {
                    "kind": self.kind,
                    "name": repr(name),
                    "near": did_you_mean(str(name), known),
                    "known": ", ".join(known) or "none",
                    "broken": registry().broken_hint(str(name)),
                },
            )
        return found.model_validate(value)
