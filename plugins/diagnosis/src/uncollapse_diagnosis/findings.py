"""From measurements to findings: what is wrong with a model, each with its evidence in one sentence.

Every threshold follows from a yardstick that :mod:`uncollapse.verdict` states already, or from what the measured
quantity means; ``docs/diagnosis.md`` derives them. With ``N`` examples, ``C`` classes and ``U`` units of the latent:

==================== ================================================================================================
collapsed            ``I(x; z) < L``: less than half of ``log C``, without labels a tenth of ``log N``
unit collapsed       what it can carry is below ``L / U``: a latent made of such units would be collapsed
partly collapsed     some unit is collapsed, or ``I(x; z) < H``: less than ``log C`` or than a third of ``log N``
decoder ignores z    ``I(x; z) >= L``, but the decoder uses less than ``L`` (at most half of what the test can show)
over-informative     ``KL(q(z) || p(z)) > log N``: of ``N`` draws of the prior, none is expected where codes lie
inference lagging    refinement gains more than the rate, and more than ``L``: ``q(z|x)`` is farther from the model's
                     posterior than from the prior
not enough data      fewer than 50 examples, or two standard errors reach from one side to the other
==================== ================================================================================================

"Below" and "above" hold with two standard errors to spare.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from uncollapse.plugins import CONDITIONS, Condition
from uncollapse.protocols import Estimate
from uncollapse.verdict import FEWEST_EXAMPLES, yardsticks

from .information import Units

__all__ = ["CONDITIONS", "Condition", "Finding", "Thresholds", "conclude", "thresholds_for"]


@dataclass(frozen=True)
class Finding:
    """One conclusion.

    Args:
        condition: What the model's condition is.
        evidence: Why, in one sentence.
        units: Units of the latent that the finding is about; empty where it is about the whole.
    """

    condition: Condition
    evidence: str
    units: tuple[int, ...] = ()


@dataclass(frozen=True)
class Thresholds:
    """Nats that decide; see the module's table.

    Args:
        collapsed: ``L``.
        healthy: ``H``.
        unit: ``L / U``.
        used: What a decoder must use at least.
        mismatch: ``log N``.
    """

    collapsed: float
    healthy: float
    unit: float
    used: float
    mismatch: float


def thresholds_for(count: int, units: int, candidates: int, classes: int | None) -> Thresholds:
    """Return the thresholds for ``N`` examples.

    Args:
        count: ``N``, the examples whose posteriors are compared.
        units: ``U``.
        candidates: Codes that each example was tried with, its own among them.
        classes: ``C``, or None without labels.
    """
    cap = math.log(max(1, count))
    low, high = yardsticks(cap, classes)
    # A test that can show log K at most is asked for half of it at most.
    used = min(low, 0.5 * math.log(max(1, candidates)))
    return Thresholds(low, high, low / max(1, units), used, cap)


@dataclass(frozen=True)
class _Range:
    value: float
    low: float
    high: float

    @classmethod
    def of(cls, estimate: Estimate | None) -> _Range | None:
        if estimate is None or not math.isfinite(estimate.value):
            return None
        error = estimate.standard_error or 0.0
        return cls(estimate.value, estimate.value - 2 * error, estimate.value + 2 * error)


def conclude(
    measured: Mapping[str, Estimate], units: Units | None, thresholds: Thresholds, count: int
) -> tuple[Finding, ...]:
    """Return the findings, the gravest first; the first one is the verdict.

    Args:
        measured: Estimates by name.
        units: What each unit of the latent does.
        thresholds: Nats that decide.
        count: Examples that were read.
    """
    if count < FEWEST_EXAMPLES:
        return (Finding("not enough data", f"{count} examples are too few; {FEWEST_EXAMPLES} are needed"),)
    information = _Range.of(measured.get("mutual_information"))
    rate = _Range.of(measured.get("rate"))
    if information is None or rate is None:
        return (Finding("not enough data", "the mutual information could not be measured"),)
    found = []
    lagging = _lagging(measured, rate, information, thresholds)
    if lagging is not None:
        found.append(lagging)
    if information.high < thresholds.collapsed:
        return (*found, Finding("collapsed", _collapsed_words(information, rate, thresholds)))
    unsure = _unsure(measured, information, thresholds)
    if unsure is not None:
        return (*found, unsure)
    found += _of_the_informative(measured, information, rate, thresholds)
    partly = _partly(units, information, thresholds)
    if partly is not None:
        found.append(partly)
    return tuple(found) or (Finding("healthy", _healthy_words(measured, information, units)),)


def _lagging(
    measured: Mapping[str, Estimate], rate: _Range, information: _Range, thresholds: Thresholds
) -> Finding | None:
    gap = _Range.of(measured.get("inference_gap"))
    if gap is None or gap.low <= max(rate.high, thresholds.collapsed):
        return None
    return Finding(
        "inference lagging",
        f"refining q(z|x) gains {gap.value:.2f} nats an example (at least {gap.low:.2f}), more than the rate of "
        f"{rate.value:.2f}: the inference network is farther from the model's posterior than from the prior",
    )


def _collapsed_words(information: _Range, rate: _Range, thresholds: Thresholds) -> str:
    words = f"z carries {information.value:.2f} nats of x, below the {thresholds.collapsed:.2f} that count as a code"
    if rate.low > max(1.0, thresholds.collapsed):
        words += f"; the rate of {rate.value:.2f} nats moves all codes away from the prior and tells no example apart"
    return words


def _unsure(measured: Mapping[str, Estimate], information: _Range, thresholds: Thresholds) -> Finding | None:
    if information.low < thresholds.collapsed and information.high >= thresholds.healthy:
        return Finding(
            "not enough data",
            f"two standard errors of the information reach from {information.low:.2f} to {information.high:.2f} nats, "
            f"over both {thresholds.collapsed:.2f} and {thresholds.healthy:.2f}; measure more examples",
        )
    used = _Range.of(measured.get("used_information"))
    if used is not None and used.value < thresholds.used <= used.high:
        return Finding(
            "not enough data",
            f"the decoder uses between {max(0.0, used.low):.2f} and {used.high:.2f} nats, around the "
            f"{thresholds.used:.2f} that decide whether it ignores z; measure more examples",
        )
    return None


def _of_the_informative(
    measured: Mapping[str, Estimate], information: _Range, rate: _Range, thresholds: Thresholds
) -> list[Finding]:
    found = []
    used = _Range.of(measured.get("used_information"))
    other = measured.get("loss_other")
    if used is not None and used.high < thresholds.used and information.low >= thresholds.collapsed:
        lost = "" if other is None else f", and loses {other.value:.2f} nats with another example's code"
        found.append(
            Finding(
                "decoder ignores z",
                f"z carries {information.value:.2f} nats of x, but the decoder uses {max(0.0, used.value):.2f} of "
                f"them, less than {thresholds.used:.2f} with two standard errors to spare{lost}",
            )
        )
    mismatch = _Range.of(measured.get("prior_mismatch"))
    if mismatch is not None and mismatch.low > thresholds.mismatch:
        variance = measured.get("posterior_variance")
        narrow = "" if variance is None else f"; a posterior has {variance.value:.2g} of the prior's variance"
        found.append(
            Finding(
                "over-informative",
                f"of {rate.value:.1f} nats of rate at least {mismatch.value:.1f} place the codes where the prior has "
                f"none, more than log N = {thresholds.mismatch:.2f}: no draw of the prior lands among them{narrow}",
            )
        )
    return found


def _partly(units: Units | None, information: _Range, thresholds: Thresholds) -> Finding | None:
    dead: tuple[int, ...] = ()
    if units is not None:
        dead = tuple(u for u, (v, error) in enumerate(units.information) if v + 2 * error < thresholds.unit)
    total = information.low < thresholds.healthy
    if not dead and not total:
        return None
    parts = []
    if dead:
        what = "dimension" if units is None or units.size == 1 else "channel"
        count = 0 if units is None else len(units.information)
        verb = "carries" if len(dead) == 1 else "carry"
        parts.append(
            f"{len(dead)} of {count} {what}s ({_listed(dead)}) {verb} less than {thresholds.unit:.3f} nats each; a "
            "latent made of such would be collapsed"
        )
    if total:
        parts.append(
            f"z carries {information.value:.2f} nats of x, between the {thresholds.collapsed:.2f} of a collapse and "
            f"the {thresholds.healthy:.2f} of a healthy code"
        )
    else:
        parts.append(f"the others carry {information.value:.2f} nats, enough in total")
    return Finding("partly collapsed", "; ".join(parts), dead)


def _healthy_words(measured: Mapping[str, Estimate], information: _Range, units: Units | None) -> str:
    words = f"z carries {information.value:.2f} nats of x"
    if units is not None:
        what = "dimensions" if units.size == 1 else "channels"
        words += f", all {len(units.information)} {what} take part" if len(units.information) > 1 else ""
    other = measured.get("loss_other")
    if other is not None:
        words += f", and the decoder loses {other.value:.2f} nats with another example's code"
    return words


def _listed(units: tuple[int, ...], most: int = 12) -> str:
    shown = ", ".join(map(str, units[:most]))
    return shown if len(units) <= most else f"{shown}, and {len(units) - most} more"
