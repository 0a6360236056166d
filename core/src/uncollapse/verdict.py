"""Whether a model has collapsed, in words and with reasons, from the numbers of ``results.json``.

The verdict rests on the mutual information ``I(x; z)``: how many nats of the data the code carries. Its yardsticks
are what these data offer:

* ``log N``, the most that an estimate from ``N`` examples can show (telling every example from every other), and
* ``log C``, what it takes to tell ``C`` equally frequent classes apart.

========================= ============================================================================================
collapsed                 the information lies below *half of log C* (without labels: below a tenth of log N)
not collapsed             it lies above both *log C* and a third of log N
partly collapsed          it lies between
cannot tell               it is not known, fewer than 50 examples were measured, or two standard errors reach from
                          "collapsed" to "not collapsed"
========================= ============================================================================================

"Below" and "above" hold with two standard errors to spare; of the two estimates from the whole set, the one with the
smaller error counts. Without the mutual information, the rate bounds it from above: a small rate proves a collapse, a
large one proves nothing (a constraint can hold it up while no example is told from another). Active units and probes
are reported and decide nothing: in a collapsed model nearly every unit can pass the usual threshold of 0.01, and a
classifier reads posterior means, without the noise that buries them.

Nothing here is called healthy: codes may hold more than they are to, a decoder may ignore them, inference may lag,
single dimensions may have collapsed, and only a diagnosis examines that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["FEWEST_EXAMPLES", "NOT_EXAMINED", "Verdict", "VerdictLabel", "verdict", "yardsticks"]

VerdictLabel = Literal["not collapsed", "partly collapsed", "collapsed", "cannot tell"]
"""How a verdict names what it found."""

NOT_EXAMINED = (
    "not examined: single dimensions, the decoder's use of z, over-informative codes, lagging inference "
    "(uncollapse diagnose examines them)"
)
"""What a verdict of not collapsed leaves open."""

FEWEST_EXAMPLES = 50
"""Fewer measured examples than these allow no verdict."""
COLLAPSED_SHARE_OF_CLASSES = 0.5
COLLAPSED_SHARE_OF_CAP = 0.1
HEALTHY_SHARE_OF_CAP = 1 / 3

_PROBES = {
    "knn_accuracy": "k-NN",
    "logistic_accuracy": "logistic regression",
    "linear_svm_accuracy": "linear SVM",
    "rbf_svm_accuracy": "RBF SVM",
}


@dataclass(frozen=True)
class Verdict:
    """Whether a model has collapsed.

    Args:
        label: ``not collapsed``, ``partly collapsed``, ``collapsed`` or ``cannot tell``.
        sentence: The label and the two or three numbers that matter, in one line.
        reasons: One sentence each: what the label rests on, and what else was seen.
    """

    label: VerdictLabel
    sentence: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class _Measured:
    value: float
    error: float
    count: int

    @property
    def cap(self) -> float:
        """``log N``."""
        return math.log(self.count) if self.count > 0 else 0.0

    @property
    def capped(self) -> bool:
        """Whether the mutual information may be larger than ``N`` examples can show."""
        return self.value > self.cap - 0.5

    @property
    def low(self) -> float:
        return self.value - 2 * self.error

    @property
    def high(self) -> float:
        return self.value + 2 * self.error


def verdict(results: Mapping[str, Any]) -> Verdict:
    """Return whether the model has collapsed, with reasons, from a mapping in the format of ``results.json``.

    Thresholds are those of the module's table.

    Args:
        results: What :func:`uncollapse.evaluation.evaluate` returns.
    """
    estimates: Mapping[str, Any] = results.get("estimates") or {}
    information = _surest(_measured(estimates, n) for n in ("mutual_information", "mutual_information_b2"))
    rate = _measured(estimates, "rate") or _measured(estimates, "kl_per_dimension")
    classes = results.get("classes")
    known = information or rate
    seen = _also_seen(results, estimates, rate, information)
    if known is None:
        need = "neither the mutual information nor the rate was measured; add the estimator 'mutual_information'"
        return Verdict("cannot tell", f"cannot tell: {need}", (need, *seen))
    cap = known.cap
    low, high = yardsticks(cap, classes)
    used = f"{known.value:.1f} of about {cap:.1f} nats used" if information else f"rate {known.value:.1f} nats"
    reasons = [_yardstick(known, classes, information is not None)]
    if known.count < FEWEST_EXAMPLES:
        label: VerdictLabel = "cannot tell"
        reasons.insert(0, f"{known.count} examples are too few, {FEWEST_EXAMPLES} are needed")
    elif known.high < low:
        label = "collapsed"
        reasons.append(f"below {low:.2f} nats, {_low_meaning(classes)}")
    elif information is None:
        label = "cannot tell"
        reasons.append("a rate this large can be spent without telling examples apart; measure 'mutual_information'")
    elif known.low >= high:
        label = "not collapsed"
        reasons.append(f"above {high:.2f} nats, {_high_meaning(cap, classes)}")
    elif known.low < low and known.high >= high:
        label = "cannot tell"
        reasons.append(f"two standard errors reach from {known.low:.2f} to {known.high:.2f} nats; measure more")
    else:
        label = "partly collapsed"
        few, enough = _low_meaning(classes), _high_meaning(cap, classes)
        reasons.append(f"between {low:.2f} nats, {few}, and {high:.2f} nats, {enough}")
    sentence = ", ".join([f"{label}: {used}", *_probe_words(results)[:1]])
    if label == "not collapsed":
        sentence = f"{sentence}; {NOT_EXAMINED}"
    return Verdict(label, sentence, (*reasons, *seen))


def yardsticks(cap: float, classes: int | None = None) -> tuple[float, float]:
    """Return the nats below which a code has collapsed, and above which it is healthy; see the module's table.

    Args:
        cap: ``log N``, for ``N`` examples.
        classes: Number of equally frequent label classes, or None without labels.
    """
    if classes is None or classes < 2:
        return COLLAPSED_SHARE_OF_CAP * cap, HEALTHY_SHARE_OF_CAP * cap
    # With few examples for many classes, telling all examples apart is as much as can be asked.
    labels = min(math.log(classes), cap)
    return COLLAPSED_SHARE_OF_CLASSES * labels, max(labels, HEALTHY_SHARE_OF_CAP * cap)


def _low_meaning(classes: int | None) -> str:
    if classes is None or classes < 2:
        return f"{COLLAPSED_SHARE_OF_CAP:.0%} of what telling all examples apart takes"
    return f"half of what telling {classes} classes apart takes"


def _high_meaning(cap: float, classes: int | None) -> str:
    if classes is not None and classes >= 2 and math.log(classes) >= HEALTHY_SHARE_OF_CAP * cap:
        return f"what telling {classes} classes apart takes"
    return "a third of what telling all examples apart takes"


def _yardstick(known: _Measured, classes: int | None, information: bool) -> str:
    error = f" ± {known.error:.2f}" if known.error else ""
    if not information:
        return f"the rate is {known.value:.2f}{error} nats, and bounds the mutual information from above"
    sentence = (
        f"mutual information {known.value:.2f}{error} nats; {known.count} examples can show at most {known.cap:.2f}"
    )
    if known.capped:
        sentence += ", so the true value may be larger"
    return sentence + (f"; {classes} classes take {math.log(classes):.2f}" if classes and classes > 1 else "")


def _also_seen(
    results: Mapping[str, Any], estimates: Mapping[str, Any], rate: _Measured | None, information: _Measured | None
) -> list[str]:
    seen = [f"{words} on posterior means" for words in _probe_words(results)]
    wasted = rate.value - information.value if rate is not None and information is not None else 0.0
    if rate is not None and information is not None and not information.capped and wasted > max(1, information.value):
        seen.append(
            f"the rate is {rate.value:.2f} nats: most of it moves the codes of all examples away from the prior and "
            "tells none apart"
        )
    units = _measured(estimates, "active_units")
    dimensions = results.get("latent_dim")
    if units is not None and dimensions:
        caveat = ", which alone says little: a unit may move and still be buried in its posterior's noise"
        seen.append(f"{units.value:.0f} of {dimensions} units are active" + (caveat if units.value else ""))
    return seen


def _probe_words(results: Mapping[str, Any]) -> list[str]:
    words = []
    for name, plain in _PROBES.items():
        score = _measured(results.get("probes") or {}, name)
        if score is not None:
            words.append(f"{plain} {100 * score.value:.0f} %")
    return words


def _surest(candidates: Iterable[_Measured | None]) -> _Measured | None:
    # The sampled variant's noise cancels between its two terms: in a collapsed model it is far the sharper one.
    found = [c for c in candidates if c is not None]
    return min(found, key=lambda c: c.error) if found else None


def _measured(numbers: Mapping[str, Any], name: str) -> _Measured | None:
    record = numbers.get(name)
    if not record or record.get("value") is None:
        return None
    return _Measured(float(record["value"]), float(record.get("standard_error") or 0.0), int(record.get("count") or 0))
