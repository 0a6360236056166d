"""Classifier probes on data with known answers."""

from __future__ import annotations

import math

import pytest
import torch
from uncollapse import DataSpec
from uncollapse.config import BuildContext
from uncollapse.errors import ConfigError, DataError
from uncollapse_measures.plugin import uncollapse_components
from uncollapse_measures.probes import KNNProbe, LinearSVMProbe, LogisticProbe, RBFSVMProbe

CONTEXT = BuildContext(DataSpec((4,), "real", classes=3))
CLASSIFIERS = {
    "knn_accuracy": KNNProbe(),
    "logistic_accuracy": LogisticProbe(),
    "linear_svm_accuracy": LinearSVMProbe(),
    "rbf_svm_accuracy": RBFSVMProbe(),
}


def _separable(n, classes=3):
    labels = torch.arange(n) % classes
    codes = 10.0 * torch.nn.functional.one_hot(labels, 4).float() + torch.randn(n, 4)
    return codes, labels


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_separable_classes_are_read_without_error(name):
    scores = CLASSIFIERS[name](*_separable(120), *_separable(60))
    assert list(scores) == [name]
    assert (scores[name].value, scores[name].standard_error, scores[name].count) == (1.0, 0.0, 60)
    assert scores[name].unit == "accuracy"


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_noise_is_read_at_chance(name):
    labels = torch.arange(600) % 2
    scores = CLASSIFIERS[name](torch.randn(600, 4), labels, torch.randn(600, 4), labels)
    assert scores[name].value == pytest.approx(0.5, abs=0.08)
    value = scores[name].value
    assert scores[name].standard_error == pytest.approx(math.sqrt(value * (1 - value) / 600))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_codes_that_are_all_alike_are_no_error(name):
    labels = torch.arange(30) % 3
    scores = CLASSIFIERS[name](torch.ones(30, 4), labels, torch.ones(30, 4), labels)
    assert scores[name].value == pytest.approx(1 / 3)


@pytest.mark.parametrize(("probe", "xor"), [(LinearSVMProbe(), 0.6), (RBFSVMProbe(), 0.95), (KNNProbe(), 0.95)])
def test_exclusive_or_needs_more_than_a_plane(probe, xor):
    def make(n):
        signs = torch.randint(0, 2, (n, 2))
        return (2.0 * signs - 1) + 0.2 * torch.randn(n, 2), signs[:, 0] ^ signs[:, 1]

    (score,) = probe(*make(300), *make(300)).values()
    assert (score.value > xor) == (xor > 0.9)


def test_knn_takes_the_majority_of_exactly_its_neighbours():
    train = torch.tensor([[0.0], [0.2], [0.3], [5.0], [5.1], [5.2], [5.3]])
    labels = torch.tensor([0, 1, 1, 0, 0, 0, 0])
    test, truth = torch.tensor([[0.05]]), torch.tensor([0])
    values = {k: KNNProbe(k)(train, labels, test, truth)["knn_accuracy"].value for k in (1, 3, 7)}
    assert values == {1: 1.0, 3: 0.0, 7: 1.0}


def test_knn_with_fewer_examples_than_neighbours_says_how_many_vote():
    score = KNNProbe(10, labels=[3], draws=2)(*_separable(30), *_separable(30))["knn_accuracy_3"]
    assert "3 neighbours" in score.note


def test_few_labels_are_drawn_repeatedly_and_scored_over_draws():
    codes, labels = _separable(300)
    noisy = codes + 4 * torch.randn_like(codes)
    probe = LogisticProbe(labels=[6, 100, "all"], draws=4)
    scores = probe(noisy, labels, noisy, labels)
    assert list(scores) == ["logistic_accuracy_6", "logistic_accuracy_100", "logistic_accuracy"]
    few = scores["logistic_accuracy_6"]
    assert few.count == 4
    assert few.standard_error > 0
    assert "4 draws of 6 labels" in few.note
    assert few.value < scores["logistic_accuracy"].value
    assert probe(noisy, labels, noisy, labels) == scores
    assert LogisticProbe(labels=[6], draws=4, seed=1)(noisy, labels, noisy, labels)["logistic_accuracy_6"] != few
    assert (
        LogisticProbe(labels=[6], draws=1)(noisy, labels, noisy, labels)["logistic_accuracy_6"].standard_error is None
    )


def test_rbf_svm_bounds_its_training_set_and_says_so():
    codes, labels = _separable(300)
    score = RBFSVMProbe(max_train=60)(codes, labels, codes, labels)["rbf_svm_accuracy"]
    assert score.value == 1.0
    assert "fitted to 60 of 300 labelled examples" in score.note
    assert "fitted" not in RBFSVMProbe(max_train=300)(codes, labels, codes, labels)["rbf_svm_accuracy"].note


def test_stopping_early_is_said_in_the_note_and_warns_nobody():
    codes, labels = torch.randn(200, 4), torch.arange(200) % 3
    score = LogisticProbe(max_iter=1)(codes, labels, codes, labels)["logistic_accuracy"]
    assert "not converged" in score.note
    assert LogisticProbe()(codes, labels, codes, labels)["logistic_accuracy"].note == ""


def test_bad_input_is_an_error_that_says_what():
    codes, labels = _separable(30)
    with pytest.raises(DataError, match="training codes hold NaN"):
        KNNProbe()(codes / 0 * 0, labels, codes, labels)
    with pytest.raises(DataError, match="as many test codes as labels, found 30 and 29"):
        KNNProbe()(codes, labels, codes, labels[1:])
    with pytest.raises(ConfigError, match="at least 2 classes"):
        KNNProbe()(codes, torch.zeros(30), codes, labels)


@pytest.mark.parametrize("config", [c.load() for c in uncollapse_components() if c.kind == "probe"])
def test_configs_build_what_they_say(config):
    built = config(labels=(4, "all"), draws=2, seed=5).build(CONTEXT)
    assert (built.labels, built.draws, built.seed) == ((4, "all"), 2, 5)
    scores = built(*_separable(60), *_separable(30))
    assert {n.endswith("_4") for n in scores} == {True, False}
    assert config.model_validate_json(config().model_dump_json()) == config()
    with pytest.raises(ValueError, match="labels"):
        config(labels=("some",))


def test_spatial_codes_and_other_dtypes_are_taken():
    codes, labels = _separable(60)
    shaped = codes.reshape(60, 1, 2, 2).double().requires_grad_()
    assert KNNProbe()(shaped, labels.int(), shaped, labels.int())["knn_accuracy"].value == 1.0
