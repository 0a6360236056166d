"""A weight that rises again and again."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from uncollapse import Progress
from uncollapse.config import BuildContext, ScheduleConfig
from uncollapse.protocols import Schedule

__all__ = ["CyclicalSchedule", "CyclicalScheduleConfig"]


class CyclicalSchedule:
    """Cycles of a rise followed by a plateau: Fu et al., Cyclical Annealing Schedule (2019), eq. 6,
    https://arxiv.org/abs/1903.10145.

    Args:
        until_epoch: Epochs that the cycles fill together; ``end`` holds afterwards.
        cycles: Number of cycles.
        rise: Share of a cycle that rises.
        start: Value at the beginning of a cycle.
        end: Value of the plateau.
    """

    def __init__(
        self, until_epoch: float, cycles: int = 4, rise: float = 0.5, start: float = 0.0, end: float = 1.0
    ) -> None:
        self.until_epoch, self.cycles, self.rise, self.start, self.end = until_epoch, cycles, rise, start, end

    def __call__(self, progress: Progress) -> float:
        """Return the weight of the step that begins at ``progress``."""
        total = self.until_epoch * progress.steps_per_epoch
        if progress.final or progress.step >= total:
            return self.end
        position = (progress.step * self.cycles / total) % 1.0
        return self.start + (self.end - self.start) * min(1.0, position / self.rise)

    def length(self) -> float:
        """Return the epochs until the value stays."""
        return self.until_epoch


class CyclicalScheduleConfig(ScheduleConfig):
    """Cyclical annealing: Fu et al. (2019), eq. 6, https://arxiv.org/abs/1903.10145.

    ``start + (end - start) min(1, t / rise)`` where ``t`` goes from 0 to 1 in every cycle.
    """

    type: Literal["cyclical"] = "cyclical"
    until_epoch: float = Field(gt=0, description="epochs that all cycles fill together", examples=[20])
    cycles: int = Field(4, ge=1, description="number of cycles")
    rise: float = Field(0.5, gt=0, le=1, description="share of a cycle that rises")
    start: float = Field(0.0, description="value at which a cycle starts")
    end: float = Field(1.0, description="value that each cycle rises to, and the final one")

    @model_validator(mode="after")
    def _rises(self) -> CyclicalScheduleConfig:
        if self.start == self.end:
            raise ValueError("start and end are equal, so nothing cycles; use {type: constant}")
        return self

    def epochs(self) -> float:
        """Return the cycles' length."""
        return self.until_epoch

    def build(self, context: BuildContext) -> Schedule:
        """Return the schedule."""
        return CyclicalSchedule(self.until_epoch, self.cycles, self.rise, self.start, self.end)
