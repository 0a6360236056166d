"""Verdicts: what they rest on, and what they do not."""

from __future__ import annotations

import math

import pytest
from uncollapse.verdict import verdict


def _number(value, error=0.0, count=360):
    return {"value": value, "unit": "", "standard_error": error, "count": count, "per_dimension": None, "note": ""}


def _results(classes=10, probes=None, **estimates):
    return {
        "latent_dim": 16,
        "classes": classes,
        "estimates": {k: v if isinstance(v, dict) else _number(v) for k, v in estimates.items()},
        "probes": {k: _number(v) for k, v in (probes or {}).items()},
    }


def test_collapsed_in_words_although_nearly_every_unit_is_active():
    found = verdict(_results(mutual_information=0.4, active_units=14, rate=0.5, probes={"knn_accuracy": 0.63}))
    assert found.label == "collapsed"
    assert found.sentence == "collapsed: 0.4 of about 5.9 nats used, k-NN 63 %"
    assert any("14 of 16 units are active, which alone says little" in r for r in found.reasons)
    assert any("360 examples can show at most 5.89" in r for r in found.reasons)


def test_active_units_never_change_the_label():
    for information in (0.0, 1.7, 5.0):
        labels = {verdict(_results(mutual_information=information, active_units=n)).label for n in (0, 8, 16)}
        assert len(labels) == 1
    assert verdict(_results(active_units=16)).label == "cannot tell"
    assert verdict(_results(active_units=0)).label == "cannot tell"


@pytest.mark.parametrize(
    ("information", "label"),
    [
        (1.10, "collapsed"),
        (1.20, "partly collapsed"),
        (2.25, "partly collapsed"),
        (2.35, "not collapsed"),
        (5.8, "not collapsed"),
    ],
)
def test_thresholds_with_ten_classes(information, label):
    # log 10 = 2.30 nats is more than a third of log 360 = 5.89.
    assert verdict(_results(mutual_information=information)).label == label


@pytest.mark.parametrize(
    ("information", "label"),
    [(0.85, "collapsed"), (1.0, "partly collapsed"), (3.0, "partly collapsed"), (3.2, "not collapsed")],
)
def test_thresholds_without_labels(information, label):
    # A tenth and a third of log 10000 = 9.21.
    assert verdict(_results(classes=None, mutual_information=_number(information, count=10000))).label == label


def test_a_label_needs_two_standard_errors_to_spare():
    assert verdict(_results(mutual_information=_number(1.0, 0.05))).label == "collapsed"
    assert verdict(_results(mutual_information=_number(1.0, 0.10))).label == "partly collapsed"
    assert verdict(_results(mutual_information=_number(2.5, 0.05))).label == "not collapsed"
    assert verdict(_results(mutual_information=_number(2.5, 0.15))).label == "partly collapsed"
    unsure = verdict(_results(mutual_information=_number(1.7, 0.4)))
    assert unsure.label == "cannot tell"
    assert any("two standard errors reach from 0.90 to 2.50" in r for r in unsure.reasons)


def test_a_small_rate_proves_a_collapse_and_a_large_one_nothing():
    assert verdict(_results(rate=0.3)).label == "collapsed"
    assert verdict(_results(kl_per_dimension=0.3)).label == "collapsed"
    large = verdict(_results(rate=12.0, probes={"knn_accuracy": 0.97}))
    assert large.label == "cannot tell"
    assert any("measure 'mutual_information'" in r for r in large.reasons)


def test_a_rate_that_is_held_up_without_information_is_seen():
    # delta-VAE's constraint: 3.2 nats of rate, nothing told apart.
    found = verdict(_results(mutual_information=0.05, rate=3.2))
    assert found.label == "collapsed"
    assert any("tells none apart" in r for r in found.reasons)
    # At the cap the difference is the estimator's limit, not waste.
    capped = verdict(_results(mutual_information=math.log(360), rate=20.0))
    assert capped.label == "not collapsed"
    assert not any("tells none apart" in r for r in capped.reasons)
    assert any("the true value may be larger" in r for r in capped.reasons)


def test_too_little_to_go_by():
    few = verdict(_results(mutual_information=_number(2.0, count=20)))
    assert few.label == "cannot tell"
    assert any("20 examples are too few" in r for r in few.reasons)
    nothing = verdict({"estimates": {}, "probes": {}})
    assert nothing.label == "cannot tell"
    assert "add the estimator 'mutual_information'" in nothing.sentence
    assert verdict({}).label == "cannot tell"
    diverged = verdict(_results(mutual_information=_number(None)))
    assert diverged.label == "cannot tell"


def test_the_sampled_variant_serves_and_the_minibatch_one_does_not():
    assert verdict(_results(mutual_information_b2=3.0)).label == "not collapsed"
    assert verdict(_results(mutual_information_minibatch=3.0)).label == "cannot tell"


def test_the_surer_of_the_two_whole_set_estimates_counts():
    found = verdict(_results(mutual_information=_number(0.9, 0.4), mutual_information_b2=_number(0.1, 0.01)))
    assert found.sentence.startswith("collapsed: 0.1 of")


def test_many_classes_ask_for_no_more_than_the_examples_can_show():
    # 1623 characters, 100 examples: log 1623 = 7.39 is beyond log 100 = 4.61.
    assert verdict(_results(classes=1623, mutual_information=_number(4.61, count=100))).label == "not collapsed"
