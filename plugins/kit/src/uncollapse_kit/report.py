"""What the kit found: named checks with their outcomes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch

__all__ = ["Check", "Conformance", "NotApplicable", "Outcome", "Violation", "expect", "run_checks"]

Outcome = Literal["passed", "failed", "not applicable"]

_Subject = TypeVar("_Subject")


class Violation(Exception):
    """A check found what the protocol forbids; the message says expected and found."""


class NotApplicable(Exception):
    """A check does not concern this component; the message says why."""


def expect(condition: bool | torch.Tensor, message: str) -> None:
    """Raise :class:`Violation` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise Violation(message)


@dataclass(frozen=True, slots=True)
class Check:
    """One check of one component.

    Args:
        name: What was checked, ``gradients_reach_every_parameter`` say.
        outcome: ``passed``, ``failed`` or ``not applicable``.
        reason: Expected and found where it failed, or why it does not apply.
        where: The setting it was checked in, ``binary image 1x8x8`` say; empty where there is none.
    """

    name: str
    outcome: Outcome
    reason: str = ""
    where: str = ""

    def __str__(self) -> str:
        place = f" [{self.where}]" if self.where else ""
        return f"{self.outcome}: {self.name}{place}" + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True, slots=True)
class Conformance:
    """Every check of one component.

    Args:
        component: Kind and type name, ``decoder 'mlp'`` say.
        checks: In the order in which they ran.
    """

    component: str
    checks: tuple[Check, ...]

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(c for c in self.checks if c.outcome == "failed")

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    def __str__(self) -> str:
        lines = "\n".join(f"  {check}" for check in self.checks)
        return f"{self.component}: {len(self.failures)} of {len(self.checks)} checks failed\n{lines}"


def run_checks(checks: Iterable[Callable[[_Subject], None]], subject: _Subject, where: str = "") -> list[Check]:
    """Run ``checks`` on ``subject``, each from the same random state, which is put back afterwards."""
    found = []
    for check in checks:
        outcome: Outcome = "passed"
        reason = ""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            try:
                check(subject)
            except NotApplicable as error:
                outcome, reason = "not applicable", str(error)
            except Violation as error:
                outcome, reason = "failed", str(error)
            except Exception as error:
                # A stranger's component may raise anything; the other checks must still run.
                outcome, reason = "failed", f"it raised {type(error).__name__}: {error}"
        found.append(Check(check.__name__, outcome, reason, where))
    return found
