"""One judge: what is wrong with a model, concluded from whatever was measured, each finding with its evidence.

With ``N`` examples, ``C`` classes and ``U`` units of the latent (``docs/diagnosis.md`` derives the thresholds):

==================== ================================================================================================
collapsed            ``I(x; z) < L``: less than half of ``log C``, without labels a tenth of ``log N``; the rate bounds
                     it from above, so a small one proves a collapse, and a large one proves nothing
unit collapsed       what it can carry is below ``L / U``: a latent made of such units would be collapsed
partly collapsed     some unit is collapsed, or ``I(x; z) < H``: less than ``log C`` or than a third of ``log N``
further conditions   what plugins contribute
not enough data      fewer than 50 examples, no mutual information, or two standard errors reach from side to side
healthy              none of these, and each was examined; *not collapsed* where some were not
==================== ================================================================================================

"Below" and "above" hold with two standard errors to spare. Active units and probes decide nothing: in a collapsed
model nearly every unit can pass the usual threshold of 0.01, and a classifier reads means without the noise on them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .records import Estimate

__all__ = [
    "CONDITIONS",
    "Condition",
    "Evidence",
    "Finding",
    "Thresholds",
    "Verdict",
    "conclude",
    "tone",
    "yardsticks",
]

FEWEST_EXAMPLES = 50

_INFORMATION = ("mutual_information_b2", "mutual_information", "mutual_information_analytic")
"""Names of an estimate over the whole set: that of B.2 in earlier runs, today's, and another for want of it."""


class Verdict(StrEnum):
    """What is said of a model in which no condition was found."""

    HEALTHY = "healthy"
    NOT_COLLAPSED = "not collapsed"
    NOT_ENOUGH = "not enough data"


@dataclass(frozen=True)
class Finding:
    """One conclusion.

    Args:
        condition: Name of the model's :class:`Condition`, or a :class:`Verdict`.
        evidence: Why, in one sentence.
        units: Units of the latent that the finding is about; empty where it is about the whole.
    """

    condition: str
    evidence: str
    units: tuple[int, ...] = ()


class Interval(NamedTuple):
    """An estimate, nats, and two standard errors to both sides."""

    value: float
    low: float
    high: float


class Thresholds(NamedTuple):
    """Nats that decide; see the module's table: ``L``, ``H``, ``L / U``, what a decoder must use, and ``log N``."""

    collapsed: float
    healthy: float
    unit: float
    used: float
    mismatch: float


@dataclass(frozen=True)
class Evidence:
    """What was measured of a model.

    Args:
        measured: Estimates by name: ``mutual_information``, ``rate``, ``unit_information`` (with its standard errors by
            unit), ``used_information``, ``prior_mismatch``, ``inference_gap``, and what contributed conditions need.
        examples: Examples that were read.
        classes: ``C``, or None without labels.
        caps: The most that an estimate can show, nats, where that is not ``log N``.
        skipped: Why something was not measured, by name.
    """

    measured: Mapping[str, Estimate]
    examples: int
    classes: int | None = None
    caps: Mapping[str, float] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_results(cls, results: Mapping[str, Any]) -> Evidence:
        """Return what a mapping in the format of ``results.json`` holds."""
        from .records import Estimate

        records = (results.get("estimates") or {}).items()
        measured = {name: Estimate.from_record(r) for name, r in records if r and r.get("value") is not None}
        information = [measured[name] for name in _INFORMATION if name in measured]
        if information:
            measured["mutual_information"] = information[0]
        if "kl_per_dimension" in measured:
            measured.setdefault("rate", measured["kl_per_dimension"])
        return cls(measured, results.get("examples") or 0, results.get("classes"))

    def interval(self, name: str) -> Interval | None:
        """Return an estimate with two standard errors to both sides; None where it is missing or not finite."""
        estimate = self.measured.get(name)
        if estimate is None or not math.isfinite(estimate.value):
            return None
        error = 2 * (estimate.standard_error or 0.0)
        return Interval(estimate.value, estimate.value - error, estimate.value + error)

    @property
    def count(self) -> int:
        """``N``: examples behind the information, which shows at most ``log N``."""
        known = self.measured.get("mutual_information") or self.measured.get("rate")
        return (known and known.count) or self.examples

    @property
    def thresholds(self) -> Thresholds:
        """The nats that decide."""
        cap = math.log(max(1, self.count))
        low, high = yardsticks(cap, self.classes)
        units = self.measured.get("unit_information")
        count = len(units.per_dimension or ()) if units else 1
        # A test that can show log K at most is asked for half of it at most.
        used = min(low, 0.5 * self.caps.get("used_information", math.inf))
        return Thresholds(low, high, low / max(1, count), used, cap)

    @property
    def has_code(self) -> bool:
        """Whether the mutual information is known not to be that of a collapse."""
        known, limits = self.interval("mutual_information"), self.thresholds
        return known is not None and known.high >= limits.collapsed and not _unsure(known, limits)


@dataclass(frozen=True)
class Condition:
    """What can be wrong with a model.

    Args:
        name: In plain words.
        exit_code: What ``uncollapse diagnose --fail-on`` returns where it was found; 10 to 19 are the project's own.
        needs: Measurements without which it was not examined.
        examine: Returns the finding, or None where the model does not have the condition.
        aspect: What was not examined where something is missing, in words that follow "not examined:".
        command: What measures it.
        from_less: Whether ``examine`` is also asked where something that it needs is missing.
        of_codes: Whether it can only be found in a model that has not collapsed.
        rank: Of several findings, that with the lowest rank is the gravest, and the verdict.
    """

    name: str
    exit_code: int
    needs: tuple[str, ...]
    examine: Callable[[Evidence], Finding | None]
    aspect: str
    command: str = "uncollapse diagnose"
    from_less: bool = False
    of_codes: bool = True
    rank: int = 5


def yardsticks(cap: float, classes: int | None = None) -> tuple[float, float]:
    """Return ``L`` and ``H``, the nats below which a code has collapsed and those that a healthy one carries.

    Args:
        cap: ``log N``, for ``N`` examples.
        classes: Number of equally frequent label classes, or None without labels.
    """
    if classes is None or classes < 2:
        return 0.1 * cap, cap / 3
    # With few examples for many classes, telling all examples apart is as much as can be asked.
    labels = min(math.log(classes), cap)
    return 0.5 * labels, max(labels, cap / 3)


def conclude(evidence: Evidence, conditions: Iterable[Condition]) -> tuple[Finding, ...]:
    """Return the findings, the gravest first; the first one is the verdict.

    Args:
        evidence: What was measured.
        conditions: What to look for: :meth:`uncollapse.plugins.Registry.conditions`.
    """
    if evidence.count < FEWEST_EXAMPLES and evidence.measured:
        return (Finding(Verdict.NOT_ENOUGH, f"{evidence.count} examples are too few; {FEWEST_EXAMPLES} are needed"),)
    found: list[Finding] = []
    open_: dict[str, list[str]] = {}
    for condition in sorted(conditions, key=lambda c: c.rank):
        missing = [name for name in condition.needs if evidence.interval(name) is None]
        how = (evidence.skipped.get(missing[0]) or f"{condition.command} tells") if missing else ""
        if (not how or condition.from_less) and (evidence.has_code or not condition.of_codes):
            try:
                finding = condition.examine(evidence)
                found += [finding] if finding is not None else []
            except Exception as error:
                # A stranger's condition; the others must go on working.
                how = f"{type(error).__name__}: {error}"
        if how:
            open_.setdefault(how, []).append(condition.aspect)
    if found:
        return tuple(found)
    if open_:
        left = "; ".join(f"{', '.join(aspects)} ({how})" for how, aspects in open_.items())
        return (Finding(Verdict.NOT_COLLAPSED, f"{_code_words(evidence)}; not examined: {left}"),)
    return (Finding(Verdict.HEALTHY, f"{_code_words(evidence)}; examined for every condition, and none found"),)


def tone(condition: str) -> str:
    """Return how a condition is shown: ``good``, ``mixed``, ``bad``, or ``unknown``, as long as not all is examined."""
    tones = {Verdict.HEALTHY: "good", _PARTLY: "mixed"} | dict.fromkeys(list(Verdict)[1:], "unknown")
    return tones.get(condition, "bad")


def _code_words(evidence: Evidence) -> str:
    known, cap = evidence.interval("mutual_information"), math.log(max(1, evidence.count))
    if known is None:
        return "the mutual information is not known"
    words = f"z carries {known.value:.2f} nats of x, of {cap:.2f} that {evidence.count:,} examples can show"
    return words + (", so that the true value may be larger" if known.value > cap - 0.5 else "")


def _unsure(known: Interval, limits: Thresholds) -> bool:
    return known.low < limits.collapsed and known.high >= limits.healthy


def _collapsed(evidence: Evidence) -> Finding | None:
    known, rate, limits = evidence.interval("mutual_information"), evidence.interval("rate"), evidence.thresholds
    if known is None:
        if rate and rate.high < limits.collapsed:
            spent = f"below the {limits.collapsed:.2f} that count as a code"
            return Finding(_COLLAPSED, f"z carries at most its rate of {rate.value:.2f} nats, {spent}")
        spent = f"; {rate.value:.2f} nats of rate may tell no example from another" if rate else ""
        return Finding(Verdict.NOT_ENOUGH, f"it needs the mutual information (estimator 'mutual_information'){spent}")
    if _unsure(known, limits):
        return Finding(
            Verdict.NOT_ENOUGH,
            f"two standard errors of the information reach from {known.low:.2f} to {known.high:.2f} nats, over both "
            f"{limits.collapsed:.2f} and {limits.healthy:.2f}; measure more examples",
        )
    if known.high >= limits.collapsed:
        return None
    words = f"z carries {known.value:.2f} nats of x, below the {limits.collapsed:.2f} that count as a code"
    if rate is not None and rate.low > max(1.0, limits.collapsed):
        words += f"; the rate of {rate.value:.2f} nats moves all codes away from the prior and tells no example apart"
    return Finding(_COLLAPSED, words)


def _partly(evidence: Evidence) -> Finding | None:
    known, limits, units = evidence.interval("mutual_information"), evidence.thresholds, evidence.measured.get(_UNITS)
    values = (units and units.per_dimension) or ()
    errors = (units and units.per_dimension_error) or (0.0,) * len(values)
    dead = tuple(u for u, (v, e) in enumerate(zip(values, errors, strict=True)) if v + 2 * e < limits.unit)
    total = known is not None and known.low < limits.healthy
    if known is None or not (dead or total):
        return None
    parts = []
    if dead:
        listed = ", ".join(map(str, dead[:12])) + (f", and {len(dead) - 12} more" if len(dead) > 12 else "")
        parts.append(
            f"{len(dead)} of {len(values)} units ({listed}) {'carries' if len(dead) == 1 else 'carry'} less than "
            f"{limits.unit:.3f} nats each; a latent made of such would be collapsed"
        )
    if total:
        parts.append(
            f"z carries {known.value:.2f} nats of x, between the {limits.collapsed:.2f} of a collapse and the "
            f"{limits.healthy:.2f} of a healthy code"
        )
    else:
        parts.append(f"the others carry {known.value:.2f} nats, enough in total")
    return Finding(_PARTLY, "; ".join(parts), dead)


_COLLAPSED, _PARTLY, _UNITS = "collapsed", "partly collapsed", "unit_information"

CONDITIONS = (
    Condition(_COLLAPSED, 11, _INFORMATION[1:2], _collapsed, "collapse", from_less=True, of_codes=False, rank=1),
    Condition(_PARTLY, 10, (_INFORMATION[1], _UNITS), _partly, "single units", from_less=True, rank=4),
)
"""What the core looks for, as it contributes it."""
