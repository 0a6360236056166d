"""The kinds of component: for each a base of its configs, which says what ``build`` returns."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from .component import BuildContext, ComponentConfig
from .kind_names import Kind
from .protocols import DataSource, Estimator, Objective, Observer, Probe, Regularizer, Sampler, Schedule, Strategy
from .records import Support

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn

__all__ = [
    "KINDS",
    "DataConfig",
    "DecoderConfig",
    "EncoderConfig",
    "EstimatorConfig",
    "LearningRateConfig",
    "LikelihoodConfig",
    "MomentTransformConfig",
    "ObjectiveConfig",
    "ObserverConfig",
    "OptimizerConfig",
    "PosteriorConfig",
    "PriorConfig",
    "ProbeConfig",
    "RegularizerConfig",
    "SamplerConfig",
    "ScheduleConfig",
    "StrategyConfig",
]


class EncoderConfig(ComponentConfig):
    """Builds an encoder: ``[B, *X] -> [B, *H]``, with ``feature_shape``."""

    kind: ClassVar[str] = Kind.encoder.value

    @abstractmethod
    def build(self, context: BuildContext) -> nn.Module:
        """Return the encoder."""


class PosteriorConfig(ComponentConfig):
    """Builds a posterior, and says the shape of its latents before anything is built."""

    kind: ClassVar[str] = Kind.posterior.value

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

    kind: ClassVar[str] = Kind.moment_transform.value

    @abstractmethod
    def build(self, context: BuildContext) -> nn.Module:
        """Return the transform."""


class PriorConfig(ComponentConfig):
    """Builds a prior: ``() -> p(z)``."""

    kind: ClassVar[str] = Kind.prior.value

    @abstractmethod
    def build(self, context: BuildContext) -> nn.Module:
        """Return the prior."""


class LikelihoodConfig(ComponentConfig):
    """Builds a likelihood: what turns a decoder's raw output into ``p(x|z)``.

    ``supports`` lists the data supports it accepts.
    """

    kind: ClassVar[str] = Kind.likelihood.value
    supports: ClassVar[frozenset[Support]] = frozenset()

    @abstractmethod
    def build(self, context: BuildContext) -> nn.Module:
        """Return the likelihood module, a :class:`~uncollapse.protocols.Likelihood`."""


class DecoderConfig(ComponentConfig):
    """Builds a decoder: ``[..., *D] -> p(x|z)``."""

    kind: ClassVar[str] = Kind.decoder.value

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

    kind: ClassVar[str] = Kind.objective.value

    @abstractmethod
    def build(self, context: BuildContext) -> Objective:
        """Return the objective."""


class RegularizerConfig(ComponentConfig):
    """Builds a regularizer: ``inference -> Penalty``."""

    kind: ClassVar[str] = Kind.regularizer.value

    @abstractmethod
    def build(self, context: BuildContext) -> Regularizer:
        """Return the regularizer."""


class ScheduleConfig(ComponentConfig):
    """Builds a schedule: ``progress -> weight``."""

    kind: ClassVar[str] = Kind.schedule.value

    @abstractmethod
    def epochs(self) -> float:
        """Return the epochs after which the value no longer changes; 0 for a constant."""

    @abstractmethod
    def build(self, context: BuildContext) -> Schedule:
        """Return the schedule."""


class EstimatorConfig(ComponentConfig):
    """Builds an estimator: ``(model, batches) -> Estimates``."""

    kind: ClassVar[str] = Kind.estimator.value

    @abstractmethod
    def build(self, context: BuildContext) -> Estimator:
        """Return the estimator."""


class ProbeConfig(ComponentConfig):
    """Builds a probe on codes and labels."""

    kind: ClassVar[str] = Kind.probe.value

    @abstractmethod
    def build(self, context: BuildContext) -> Probe:
        """Return the probe."""


class SamplerConfig(ComponentConfig):
    """Builds a sampler: ``(model, count) -> x``."""

    kind: ClassVar[str] = Kind.sampler.value

    @abstractmethod
    def build(self, context: BuildContext) -> Sampler:
        """Return the sampler."""


class ObserverConfig(ComponentConfig):
    """Builds an observer, trained beside the model on detached quantities."""

    kind: ClassVar[str] = Kind.observer.value

    @abstractmethod
    def build(self, context: BuildContext) -> Observer:
        """Return the observer."""


class DataConfig(ComponentConfig):
    """Builds a data source."""

    kind: ClassVar[str] = Kind.data.value
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

    kind: ClassVar[str] = Kind.optimizer.value
    lr: float

    @abstractmethod
    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer."""


class LearningRateConfig(ComponentConfig):
    """Builds a learning-rate schedule."""

    kind: ClassVar[str] = Kind.learning_rate.value

    @abstractmethod
    def build(self, context: BuildContext) -> Callable[[int], float]:
        """Return ``step -> factor`` on the optimizer's rate."""


class StrategyConfig(ComponentConfig):
    """Builds a training-step strategy: ``(learning, batch, progress) -> Outcome``."""

    kind: ClassVar[str] = Kind.strategy.value

    @abstractmethod
    def build(self, context: BuildContext) -> Strategy:
        """Return the strategy."""


_BASES = {base.kind: base for base in ComponentConfig.__subclasses__()}

KINDS: dict[str, type[ComponentConfig]] = {kind.value: _BASES[kind.value] for kind in Kind}
"""The base of every kind of component, by the kind's name."""
