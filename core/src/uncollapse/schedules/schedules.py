"""Constant, linear and cyclical weights."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ..component import BuildContext
from ..kinds import ScheduleConfig
from ..protocols import Progress, Schedule

__all__ = ["ConstantSchedule", "ConstantScheduleConfig", "LinearSchedule"]

Per = Literal["step", "epoch"]


class ConstantSchedule:
    """The same value at every step.

    Args:
        value: The weight.
    """

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, progress: Progress) -> float:
        """Return the value."""
        return self.value

    def length(self) -> float:
        """Return 0: nothing changes."""
        return 0.0


class LinearSchedule:
    """A straight line from ``start`` to ``end``, then constant.

    With ``per="step"`` the weight is raised before it is used, so the first step sees one increment: He et al.,
    Lagging Inference Networks and Posterior Collapse (2019), https://arxiv.org/abs/1901.05534, released code, and
    DU-VAE. With ``per="epoch"`` it is ``min(1, epoch / until_epoch)`` with epochs counted from 1 and constant inside
    one: Tomczak and Welling, VAE with a VampPrior (2018), https://arxiv.org/abs/1705.07120, released code.

    Args:
        until_epoch: Epochs after which ``end`` is reached.
        start: Value before the first increment.
        end: Final value.
        per: What advances the weight.
    """

    def __init__(self, until_epoch: float, start: float = 0.0, end: float = 1.0, per: Per = "step") -> None:
        self.until_epoch, self.start, self.end, self.per = until_epoch, start, end, per

    def __call__(self, progress: Progress) -> float:
        """Return the weight of the step that begins at ``progress``."""
        if progress.final or self.until_epoch == 0:
            return self.end
        if self.per == "epoch":
            fraction = (progress.epoch + 1) / self.until_epoch
        else:
            fraction = (progress.step + 1) / (self.until_epoch * progress.steps_per_epoch)
        return self.end if fraction >= 1 else self.start + (self.end - self.start) * fraction

    def length(self) -> float:
        """Return the epochs until the value stays."""
        return self.until_epoch


class ConstantScheduleConfig(ScheduleConfig):
    """A weight that stays, as in beta-VAE: Higgins et al. (2017), eq. 4. A bare number in a pipeline means this.

    ``w(t) = value``.
    """

    type: Literal["constant"] = "constant"
    value: float = Field(description="the weight", examples=[4.0])

    def epochs(self) -> float:
        """Return 0."""
        return 0.0

    def build(self, context: BuildContext) -> Schedule:
        """Return the schedule."""
        return ConstantSchedule(self.value)


class LinearScheduleConfig(ScheduleConfig):
    """Linear annealing: Bowman et al. (2016), section 3.1, https://arxiv.org/abs/1511.06349, called KL annealing there.

    DU-VAE and lagging inference networks use it with ``per: step``, VampPrior with ``per: epoch``.
    """

    type: Literal["linear"] = "linear"
    until_epoch: float = Field(gt=0, description="epochs after which the end value is reached", examples=[10])
    start: float = Field(0.0, description="value before the first increment")
    end: float = Field(1.0, description="final value")
    per: Per = Field("step", description="advance at every step, incremented before use; or at every epoch, from 1")

    def epochs(self) -> float:
        """Return the annealing's length."""
        return self.until_epoch

    def build(self, context: BuildContext) -> Schedule:
        """Return the schedule."""
        return LinearSchedule(self.until_epoch, self.start, self.end, self.per)
