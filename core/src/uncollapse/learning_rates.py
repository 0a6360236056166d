"""Learning-rate schedules: ``step -> factor`` on the optimizer's rate, step 0 being the first."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from pydantic import Field, field_validator

from .component import BuildContext
from .errors import ConfigError
from .kinds import LearningRateConfig

__all__ = ["CosineConfig", "MultistepConfig", "WarmupConfig"]


class MultistepConfig(LearningRateConfig):
    """``factor ** n`` after ``n`` milestones: He et al., Deep Residual Learning (2016), section 3.4,
    https://arxiv.org/abs/1512.03385.
    """

    type: Literal["multistep"] = "multistep"
    milestones: tuple[float, ...] = Field(
        min_length=1, description="epochs at whose end the rate drops, ascending", examples=[(20, 30)]
    )
    factor: float = Field(0.1, gt=0, lt=1, description="multiplies the rate at every milestone")

    @field_validator("milestones")
    @classmethod
    def _ascending(cls, milestones: tuple[float, ...]) -> tuple[float, ...]:
        if list(milestones) != sorted(set(milestones)) or milestones[0] <= 0:
            raise ValueError(f"milestones are positive epochs in ascending order, found {list(milestones)}")
        return milestones

    def build(self, context: BuildContext) -> Callable[[int], float]:
        """Return the schedule."""
        _inside_run("milestones", self.milestones[-1], context)
        steps = [m * context.steps_per_epoch for m in self.milestones]
        return lambda step: self.factor ** sum(step >= s for s in steps)


class WarmupConfig(LearningRateConfig):
    """A straight rise to 1, then constant: Goyal et al., Accurate, Large Minibatch SGD (2017), section 2.2,
    https://arxiv.org/abs/1706.02677. The first step has ``1 / warm-up steps``.
    """

    type: Literal["warmup"] = "warmup"
    epochs: float = Field(gt=0, description="length of the rise in epochs", examples=[2])

    def build(self, context: BuildContext) -> Callable[[int], float]:
        """Return the schedule."""
        _inside_run("epochs", self.epochs, context)
        steps = self.epochs * context.steps_per_epoch
        return lambda step: min(1.0, (step + 1) / steps)


class CosineConfig(LearningRateConfig):
    """Half a cosine down to ``final``: Loshchilov and Hutter, SGDR (2017), eq. 5, https://arxiv.org/abs/1608.03983,
    without restarts; after a straight rise where ``warmup_epochs`` is above 0.

    ``final + (1 - final) (1 + cos(pi t)) / 2`` where ``t`` goes from 0 to 1 between the rise and the end of the run.
    """

    type: Literal["cosine"] = "cosine"
    warmup_epochs: float = Field(0.0, ge=0, description="length of the rise in epochs")
    final: float = Field(0.0, ge=0, lt=1, description="factor at the end of the run")

    def build(self, context: BuildContext) -> Callable[[int], float]:
        """Return the schedule.

        Raises:
            ConfigError: The run's length is unknown, or the rise fills it.
        """
        if context.epochs is None:
            raise ConfigError("training.learning_rate: 'cosine' needs the length of the run; give epochs")
        if self.warmup_epochs >= context.epochs:
            raise ConfigError(
                f"training.learning_rate.warmup_epochs: the rise takes {self.warmup_epochs:g} epochs, but "
                f"training.epochs is {context.epochs}; shorten the rise or train longer"
            )
        rise = self.warmup_epochs * context.steps_per_epoch
        fall = context.epochs * context.steps_per_epoch - rise

        def factor(step: int) -> float:
            if step < rise:
                return min(1.0, (step + 1) / rise)
            turn = math.pi * min(1.0, (step - rise) / fall)
            return self.final + (1 - self.final) * 0.5 * (1 + math.cos(turn))

        return factor


def _inside_run(field: str, epochs: float, context: BuildContext) -> None:
    if context.epochs is not None and epochs > context.epochs:
        raise ConfigError(
            f"training.learning_rate.{field}: reaches to epoch {epochs:g}, but training.epochs is {context.epochs}; "
            "shorten it or train longer"
        )
