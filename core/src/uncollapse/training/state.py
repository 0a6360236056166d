"""Where a run stands: everything that decides what its next step is, besides weights and random generators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..config.pipeline import EarlyStoppingConfig

__all__ = ["TrainingState"]


@dataclass
class TrainingState:
    """Position and verdicts so far.

    Args:
        step: Optimizer steps done.
        epoch: Whole epochs done, their validation included.
        position: Batches of the current epoch that are done.
        best: Lowest monitored value so far (lower is better).
        to_beat: What early stopping wants improved on by ``min_delta``.
        stale: Validations without such an improvement, counted once every schedule has reached its final value.
        stopped: Whether the learning-rate schedule ended the run.
    """

    step: int = 0
    epoch: int = 0
    position: int = 0
    best: float | None = None
    to_beat: float | None = None
    stale: int = 0
    stopped: bool = False

    def judge(
        self, value: float, stopping: EarlyStoppingConfig | None, *, settled: bool, comparable: bool = True
    ) -> bool:
        """Take note of a validation and return whether it is the best so far.

        Args:
            value: Monitored value, lower is better.
            stopping: Patience and smallest improvement, or None.
            settled: Whether every schedule has reached its final value; until then patience does not run.
            comparable: Whether the value can be compared with those of other steps. The best is chosen among those
                that can; as long as there are none, the last one counts.
        """
        if not comparable:
            self.stale = 0
            return self.best is None
        min_delta = stopping.min_delta if stopping else 0.0
        if self.to_beat is None or value < self.to_beat - min_delta:
            self.to_beat, self.stale = value, 0
        else:
            self.stale = self.stale + 1 if settled else 0
        improved = self.best is None or value < self.best
        if improved:
            self.best = value
        return improved

    def is_over(self, epochs: int, stopping: EarlyStoppingConfig | None) -> bool:
        """Return whether the run is at its end."""
        return self.epoch >= epochs or self.stopped or (stopping is not None and self.stale >= stopping.patience)

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers."""
        return asdict(self)

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> TrainingState:
        """Restore what :meth:`state_dict` returned."""
        return cls(**state)
