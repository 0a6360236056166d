"""Importance-weighted likelihood against truths, exactly K samples, equal weight for every example."""

from __future__ import annotations

import math

import pytest
import torch
from numpy.testing import assert_allclose
from uncollapse import DataSpec
from uncollapse.config import BuildContext
from uncollapse.errors import DataError, ShapeError
from uncollapse.estimators import ImportanceWeightedNLL, importance_weighted_nll
from uncollapse.estimators.nll import ImportanceWeightedNLLConfig
from uncollapse.protocols import Batch

CASES = ("orthogonal_exact_posterior", "general_diag_q", "big_orthogonal")


def _parts(case):
    return (torch.as_tensor(case[k], dtype=torch.float64) for k in ("W", "b", "x"))


@pytest.mark.parametrize("name", CASES)
def test_functional_matches_released_code_on_stored_samples(oracle, linear_gaussian, name):
    reference = oracle("iw_linear_gaussian")
    case, expected = reference["inputs"][name], reference["expected"][name]
    w, b, x = _parts(case)
    model = linear_gaussian(w, b, float(case["sigma"]), torch.as_tensor(case["q_logvar"][0]))
    z = torch.as_tensor(case["z_samples"]).transpose(0, 1)
    with torch.no_grad():
        q = model.infer(x)
        log_weights = model.generate(z).log_prob(x) + model.p_z().log_prob(z) - q.log_prob(z)
    assert_allclose(q.mean.detach(), case["q_mean"], rtol=1e-8, atol=1e-10)
    assert_allclose(
        importance_weighted_nll(log_weights), expected["iw_nll_from_given_samples"], rtol=reference["rtol"], atol=1e-10
    )


@pytest.mark.parametrize("samples", [1, 3, 50])
def test_exact_posterior_gives_the_truth_for_any_number_of_samples(oracle, linear_gaussian, batches_of, samples):
    reference = oracle("iw_linear_gaussian")
    case = reference["inputs"]["orthogonal_exact_posterior"]
    w, b, x = _parts(case)
    model = linear_gaussian(w, b, float(case["sigma"]))
    nll = ImportanceWeightedNLL(samples, memory="2 KB")(model, batches_of(x, 3))["nll"]
    truth = -torch.as_tensor(reference["expected"]["orthogonal_exact_posterior"]["true_log_px"])
    assert nll.value == pytest.approx(truth.mean().item(), abs=1e-9)
    assert nll.standard_error == pytest.approx(truth.std().item() / math.sqrt(len(x)), abs=1e-9)
    assert (nll.unit, nll.count) == ("nats", len(x))
    assert f"K = {samples}" in nll.note


def test_general_posterior_comes_close_to_the_truth(oracle, linear_gaussian, batches_of):
    reference = oracle("iw_linear_gaussian")
    case, expected = reference["inputs"]["general_diag_q"], reference["expected"]["general_diag_q"]
    w, b, x = _parts(case)
    model = linear_gaussian(w, b, float(case["sigma"]), torch.as_tensor(case["q_logvar"][0]))
    nll = ImportanceWeightedNLL(5000)(model, batches_of(x, 4))["nll"].value
    assert nll == pytest.approx(float(expected["true_nll_mean"]), abs=0.02)
    assert nll < -float(expected["exact_elbo"].mean()) - 0.1


@pytest.mark.parametrize("memory", ["1 GB", "1 KB", "400 B"])
@pytest.mark.parametrize("samples", [10, 7, 1])
def test_exactly_k_samples_whatever_the_budget(linear_gaussian, batches_of, samples, memory):
    model = linear_gaussian(torch.randn(4, 2), torch.zeros(4), 0.5)
    ImportanceWeightedNLL(samples, memory)(model, batches_of(torch.randn(11, 4), 4))
    trial, calls = model.decoder.calls[:2], model.decoder.calls[2:]
    assert trial == [2, 4]
    assert sum(calls) == samples * 11
    if memory == "1 GB":
        assert calls == [samples * 4, samples * 4, samples * 3]
    elif samples > 1:
        assert max(calls) < samples * 3


def test_every_example_weighs_the_same_whatever_the_batches(linear_gaussian, batches_of):
    # With orthogonal W the weights carry no noise, so batching must not change the number at all.
    w = torch.linalg.qr(torch.randn(5, 3, dtype=torch.float64))[0]
    model = linear_gaussian(w, torch.zeros(5, dtype=torch.float64), 0.7)
    x = torch.randn(7, 5, dtype=torch.float64)
    x[6] *= 10
    whole = ImportanceWeightedNLL(2)(model, batches_of(x, 7))["nll"]
    cut = ImportanceWeightedNLL(2)(model, batches_of(x, 3))["nll"]
    assert cut.value == pytest.approx(whole.value, rel=1e-12)
    means_of_means = torch.stack([b.x.square().sum(1).mean() for b in batches_of(x, 3)()]).mean()
    assert means_of_means != pytest.approx(x.square().sum(1).mean().item(), rel=0.1)


def test_sum_over_samples_is_accumulated_in_float64_and_survives_extreme_weights():
    log_weights = torch.tensor([[-1e5, -3.0], [-1e5 + 1, -3.0]], dtype=torch.float64)
    expected = [1e5 - 1 - math.log((1 + math.exp(-1)) / 2), 3.0]
    assert_allclose(importance_weighted_nll(log_weights), expected, rtol=1e-14)
    with pytest.raises(ShapeError, match="K at least 1"):
        importance_weighted_nll(torch.zeros(0, 3))


def test_bits_per_dimension(linear_gaussian, batches_of):
    model = linear_gaussian(torch.randn(6, 2), torch.zeros(6), 1.0)
    model.decoder.event_shape = (1, 2, 3)
    found = ImportanceWeightedNLL(3)(model, batches_of(torch.randn(5, 1, 2, 3), 5))
    assert found["bits_per_dimension"].value == pytest.approx(found["nll"].value / (6 * math.log(2)))
    assert found["bits_per_dimension"].unit == "bits/dim"
    tokens = BuildContext(DataSpec((6,), "tokens", vocabulary_size=9))
    assert not ImportanceWeightedNLLConfig().build(tokens).bits_per_dimension


def test_training_mode_and_gradients_come_back(linear_gaussian, batches_of):
    model = linear_gaussian(torch.randn(4, 2), torch.zeros(4), 0.5)
    model.train()
    model.decoder.eval()
    seen = []
    model.encoder.register_forward_hook(lambda module, *_: seen.append((module.training, torch.is_grad_enabled())))
    ImportanceWeightedNLL(2)(model, batches_of(torch.randn(3, 4), 2))
    assert set(seen) == {(False, False)}
    assert model.training
    assert model.posterior.training
    assert not model.decoder.training


def test_modes_come_back_after_a_failure_and_an_empty_set_is_an_error(linear_gaussian):
    model = linear_gaussian(torch.randn(4, 2), torch.zeros(4), 0.5).train()
    with pytest.raises(DataError, match="the evaluation set is empty"):
        ImportanceWeightedNLL(2)(model, lambda: iter([Batch(torch.zeros(0, 4))]))
    assert model.training


def test_examples_bounds_the_set_exactly(linear_gaussian, batches_of):
    model, x = linear_gaussian(torch.randn(6, 3), torch.zeros(6), 1.0), torch.randn(10, 6)
    for count in (3, 4, 7, 10, 50):
        found = ImportanceWeightedNLL(samples=1, examples=count)(model, batches_of(x, 4))["nll"]
        assert found.count == min(count, 10)
