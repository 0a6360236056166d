"""Findings: what they rest on, what they leave open, and conditions that plugins contribute."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest
from uncollapse.findings import CONDITIONS, Condition, Evidence, Finding, conclude, tone, yardsticks
from uncollapse.protocols import Estimate


def _number(value, error=0.0, count=360):
    return {"value": value, "unit": "", "standard_error": error, "count": count, "per_dimension": None, "note": ""}


def _results(classes=10, **estimates):
    estimates = {k: v if isinstance(v, dict) else _number(v) for k, v in estimates.items()}
    return {"latent_dim": 16, "classes": classes, "examples": 360, "estimates": estimates, "probes": {}}


def _found(conditions=CONDITIONS, **results):
    return conclude(Evidence.from_results(_results(**results)), conditions)


def _verdict(**results):
    return _found(**results)[0].condition


def test_active_units_never_change_the_verdict():
    for information in (0.0, 1.7, 5.0):
        found = {_found(mutual_information=information, active_units=n) for n in (0, 8, 16)}
        assert len(found) == 1
    assert _verdict(active_units=16) == _verdict(active_units=0) == "not enough data"


@pytest.mark.parametrize(
    ("information", "condition"),
    [
        (1.10, "collapsed"),
        (1.20, "partly collapsed"),
        (2.25, "partly collapsed"),
        (2.35, "not collapsed"),
        (5.8, "not collapsed"),
    ],
)
def test_thresholds_with_ten_classes(information, condition):
    # log 10 = 2.30 nats is more than a third of log 360 = 5.89.
    assert _verdict(mutual_information=information) == condition


@pytest.mark.parametrize(
    ("information", "condition"),
    [(0.85, "collapsed"), (1.0, "partly collapsed"), (3.0, "partly collapsed"), (3.2, "not collapsed")],
)
def test_thresholds_without_labels(information, condition):
    # A tenth and a third of log 10000 = 9.21.
    assert _verdict(classes=None, mutual_information=_number(information, count=10000)) == condition


def test_a_finding_needs_two_standard_errors_to_spare():
    assert _verdict(mutual_information=_number(1.0, 0.05)) == "collapsed"
    assert _verdict(mutual_information=_number(1.0, 0.10)) == "partly collapsed"
    assert _verdict(mutual_information=_number(2.5, 0.05)) == "not collapsed"
    assert _verdict(mutual_information=_number(2.5, 0.15)) == "partly collapsed"
    (unsure,) = _found(mutual_information=_number(1.7, 0.4))
    assert unsure.condition == "not enough data"
    assert "two standard errors of the information reach from 0.90 to 2.50" in unsure.evidence


def test_a_small_rate_proves_a_collapse_and_a_large_one_nothing():
    assert _verdict(rate=0.3) == "collapsed"
    assert _verdict(kl_per_dimension=0.3) == "collapsed"
    (large,) = _found(rate=12.0)
    assert large.condition == "not enough data"
    assert "12.00 nats of rate may tell no example from another" in large.evidence


def test_a_rate_that_is_held_up_without_information_is_seen():
    # delta-VAE's constraint: 3.2 nats of rate, nothing told apart.
    (found,) = _found(mutual_information=0.05, rate=3.2)
    assert found.condition == "collapsed"
    assert "tells no example apart" in found.evidence
    # At the cap the difference is the estimator's limit, not waste.
    (capped,) = _found(mutual_information=math.log(360), rate=20.0)
    assert capped.condition == "not collapsed"
    assert "no example apart" not in capped.evidence
    assert "of 5.89 that 360 examples can show, so that the true value may be larger" in capped.evidence


def test_too_little_to_go_by():
    (few,) = _found(mutual_information=_number(2.0, count=20))
    assert few == Finding("not enough data", "20 examples are too few; 50 are needed")
    for nothing in ({"estimates": {}, "probes": {}}, {}, _results(mutual_information=_number(None))):
        (found,) = conclude(Evidence.from_results(nothing), CONDITIONS)
        assert found.condition == "not enough data"
        assert "estimator 'mutual_information'" in found.evidence


def test_an_estimate_over_minibatches_does_not_serve_and_older_names_do():
    assert _verdict(mutual_information_minibatch=3.0) == "not enough data"
    assert _verdict(mutual_information_analytic=3.0) == _verdict(mutual_information_b2=3.0) == "not collapsed"
    # The headline, that tables show, whichever has the smaller error.
    for error in (0.01, 0.4):
        found = _found(mutual_information=_number(4.0, 0.1), mutual_information_analytic=_number(0.1, error))
        assert found[0].evidence.startswith("z carries 4.00 nats")
    (old,) = _found(mutual_information=_number(0.9, 0.4), mutual_information_b2=_number(0.1, 0.01))
    assert old.evidence.startswith("z carries 0.10 nats")


def test_many_classes_ask_for_no_more_than_the_examples_can_show():
    # 1623 characters, 100 examples: log 1623 = 7.39 is beyond log 100 = 4.61.
    assert _verdict(classes=1623, mutual_information=_number(4.61, count=100)) == "not collapsed"
    assert yardsticks(4.61, 1623) == (0.5 * 4.61, 4.61)


def _measured(**values):
    return {name: e if isinstance(e, Estimate) else Estimate(e, "nats", 0.0, 360) for name, e in values.items()}


def test_healthy_is_said_only_when_everything_was_examined():
    units = Estimate(4.0, "nats", None, 360, (2.0, 2.0), "", (0.1, 0.1))
    evidence = Evidence(_measured(mutual_information=5.0, unit_information=units), 360, 10)
    assert [f.condition for f in conclude(evidence, CONDITIONS)] == ["healthy"]
    (open_,) = conclude(Evidence(_measured(mutual_information=5.0), 360, 10), CONDITIONS)
    assert open_.condition == "not collapsed"
    assert open_.evidence.endswith("not examined: single units (uncollapse diagnose tells)")
    (said,) = conclude(
        Evidence(_measured(mutual_information=5.0), 360, 10, skipped={"unit_information": "there is one unit"}),
        CONDITIONS,
    )
    assert said.evidence.endswith("not examined: single units (there is one unit)")
    assert tone("healthy") == "good"
    assert tone("not collapsed") == tone("not enough data") == "unknown"


def test_a_dead_unit_needs_two_standard_errors_too():
    # L / U = 1.15 / 2.
    for error, condition in ((0.1, "partly collapsed"), (0.2, "healthy")):
        units = Estimate(4.0, "nats", None, 360, (4.0, 0.3), "", (0.1, error))
        (found,) = conclude(Evidence(_measured(mutual_information=5.0, unit_information=units), 360, 10), CONDITIONS)
        assert (found.condition, found.units) == (condition, (1,) if condition == "partly collapsed" else ())


def _odd(evidence):
    odd = evidence.interval("oddness")
    return Finding("odd", f"oddness {odd.value:.1f}") if odd.low > 1 else None


ODD = Condition("odd", 42, ("oddness",), _odd, "oddness", command="uncollapse oddly", rank=3)


def test_a_contributed_condition_is_found_like_any_other():
    units = Estimate(4.0, "nats", None, 360, (2.0, 2.0), "", (0.1, 0.1))
    good = _measured(mutual_information=5.0, unit_information=units)
    conditions = (*CONDITIONS, ODD)
    for oddness, condition in ((2.0, "odd"), (0.5, "healthy")):
        found = conclude(Evidence({**good, **_measured(oddness=oddness)}, 360, 10), conditions)
        assert [f.condition for f in found] == [condition]
    (open_,) = conclude(Evidence(good, 360, 10), conditions)
    assert open_.evidence.endswith("not examined: oddness (uncollapse oddly tells)")
    # Of codes: in a collapsed model it is not looked for.
    collapsed = conclude(Evidence(_measured(mutual_information=0.1, oddness=2.0), 360, 10), conditions)
    assert [f.condition for f in collapsed] == ["collapsed"]
    # Graver ones first, whatever the order in which they are given.
    partly = conclude(Evidence(_measured(mutual_information=1.5, oddness=2.0), 360, 10), (*CONDITIONS[::-1], ODD))
    assert [f.condition for f in partly] == ["odd", "partly collapsed"]


def test_a_contributed_condition_that_fails_takes_nothing_else_down():
    def fails(evidence):
        raise ZeroDivisionError("by nothing")

    broken = Condition("broken", 43, (), fails, "breakage")
    (found,) = _found(conditions=(*CONDITIONS, broken), mutual_information=5.0)
    assert found.condition == "not collapsed"
    assert "breakage (ZeroDivisionError: by nothing)" in found.evidence
    assert _found(conditions=(*CONDITIONS, broken), mutual_information=0.1)[0].condition == "collapsed"


def test_the_judge_needs_no_torch():
    """The command line names conditions in its help."""
    code = "import sys, json, uncollapse.findings; print(json.dumps('torch' in sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(said) is False
