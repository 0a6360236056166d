"""When the rate fell, and under which weight, from a training record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["History", "read_history"]


@dataclass(frozen=True)
class History:
    """What the training record says of the rate.

    Args:
        threshold: Nats below which a rate proves a collapse.
        highest: The highest rate, nats.
        highest_step: Its step.
        last: The last rate, nats.
        last_step: Its step.
        fell_step: First step from which the rate stayed below the threshold, having been above; None if it did not.
        weights: Values of schedules at ``fell_step``, or at the last step where the rate never rose; by name.
    """

    threshold: float
    highest: float
    highest_step: int
    last: float
    last_step: int
    fell_step: int | None
    weights: Mapping[str, float]

    @property
    def sentence(self) -> str:
        """The record in one sentence."""
        weights = ", ".join(f"{name} {value:.3g}" for name, value in self.weights.items())
        under = f", under {weights}" if weights else ""
        if self.fell_step is not None:
            return (
                f"the rate fell below {self.threshold:.2f} nats at step {self.fell_step}{under}; its highest value was "
                f"{self.highest:.2f} at step {self.highest_step}"
            )
        if self.last < self.threshold:
            return f"the rate never rose above {self.threshold:.2f} nats in {self.last_step} steps{under}"
        return f"the rate ended at {self.last:.2f} nats, above {self.threshold:.2f}; it never fell for good"


def read_history(rows: Iterable[Mapping[str, Any]], threshold: float) -> History | None:
    """Return what a training record says of the rate; None where it holds none.

    Args:
        rows: In the format of ``metrics.jsonl``: ``step``, ``rate`` in nats, and weights, known by their name:
            ``beta``, or one that ends in ``weight``. Rows of a split other than ``train`` are left out.
        threshold: Nats below which a rate proves a collapse.
    """
    known = [r for r in rows if r.get("rate") is not None and "step" in r and r.get("split", "train") == "train"]
    if not known:
        return None
    known.sort(key=lambda row: int(row["step"]))
    highest = max(known, key=lambda row: float(row["rate"]))
    fell: Mapping[str, Any] | None = None
    above = False
    for row in known:
        if float(row["rate"]) >= threshold:
            above, fell = True, None
        elif above and fell is None:
            fell = row
    of_note = fell or known[-1]
    return History(
        threshold=threshold,
        highest=float(highest["rate"]),
        highest_step=int(highest["step"]),
        last=float(known[-1]["rate"]),
        last_step=int(known[-1]["step"]),
        fell_step=None if fell is None else int(fell["step"]),
        weights={name: float(v) for name, v in of_note.items() if _is_weight(name) and isinstance(v, int | float)},
    )


def _is_weight(name: str) -> bool:
    return name == "beta" or name.endswith("weight")
