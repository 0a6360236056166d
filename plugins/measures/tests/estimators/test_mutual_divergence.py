"""Mutual posterior divergence against released codes, in bounded memory, with honest errors."""

from __future__ import annotations

import pytest
import torch
from numpy.testing import assert_allclose
from torch.distributions import Exponential, Independent
from uncollapse import Batch, DiagonalNormal
from uncollapse.errors import ConfigError, ShapeError
from uncollapse_measures.estimators import MutualPosteriorDivergence, pair_statistics


@pytest.mark.parametrize("name", ["small", "collapsed", "big", "pair"])
@pytest.mark.parametrize("pairs_at_once", [1, 100, 10**6])
def test_matches_released_evaluation(oracle, name, pairs_at_once):
    reference = oracle("mae_pairwise")
    case, expected = reference["inputs"][name], reference["expected"][name]
    found = pair_statistics(torch.as_tensor(case["mu"]), torch.as_tensor(case["logvar"]), pairs_at_once)
    assert_allclose(found.mean, expected["paper_mpd_eq4"], rtol=reference["rtol"], atol=1e-13)
    assert_allclose(found.std, expected["Lsmooth_unbiased_std_offdiag"], rtol=reference["rtol"], atol=1e-13)
    assert_allclose(found.per_dimension, expected["paper_mean_kl_per_dim"], rtol=reference["rtol"], atol=1e-13)


@pytest.mark.parametrize("name", ["small", "big"])
def test_matches_the_other_released_code_over_distinct_pairs(oracle, name):
    reference = oracle("duvae_mpd_ce")
    case, expected = reference["inputs"][name], reference["expected"][name]
    found = pair_statistics(torch.as_tensor(case["mu"]), torch.as_tensor(case["logvar"]))
    assert_allclose(found.per_dimension, expected["skl_mean_offdiag_per_dim"], rtol=reference["rtol"], atol=1e-10)


def _brute_force(mean, logvar):
    q, p = (DiagonalNormal(mean[i], logvar[i]) for i in ((slice(None), None), (None, slice(None))))
    kl = torch.distributions.kl_divergence(q, p)
    return kl[~torch.eye(len(mean), dtype=torch.bool)]


@pytest.mark.parametrize("spread", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize("centre", [0.0, -14.0])
def test_moments_match_brute_force(spread, centre):
    mean = 5 + spread * torch.randn(25, 4, dtype=torch.float64)
    logvar = centre + 0.1 * spread**0.5 * torch.randn(25, 4, dtype=torch.float64)
    found, kl = pair_statistics(mean, logvar), _brute_force(mean, logvar)
    assert_allclose(found.mean, kl.mean(), rtol=1e-9)
    assert_allclose(found.std, kl.std(), rtol=1e-7)
    assert_allclose(found.example_means.mean(), kl.mean(), rtol=1e-7)


def _model(with_posterior, mean, logvar):
    return with_posterior(lambda i: DiagonalNormal(mean[i], logvar[i]), mean.shape[1:])


def _batches(n, size):
    return lambda: iter([Batch(x) for x in torch.arange(float(n))[:, None].split(size)])


def test_groups_follow_per_batch_and_not_the_pass(with_posterior):
    mean, logvar = torch.randn(11, 3, dtype=torch.float64), 0.3 * torch.randn(11, 3, dtype=torch.float64)
    model = _model(with_posterior, mean, logvar)
    found = MutualPosteriorDivergence(per_batch=4)(model, _batches(11, 5))
    groups = [_brute_force(*p) for p in zip(mean.split(4), logvar.split(4), strict=True)]
    weights = [4 / 11, 4 / 11, 3 / 11]
    value = sum(w * g.mean() for w, g in zip(weights, groups, strict=True))
    std = sum(w * g.std() for w, g in zip(weights, groups, strict=True))
    assert found["mutual_posterior_divergence"].value == pytest.approx(value.item(), rel=1e-9)
    assert found["mutual_posterior_divergence_std"].value == pytest.approx(std.item(), rel=1e-7)
    assert sum(found["mutual_posterior_divergence"].per_dimension) == pytest.approx(value.item(), rel=1e-9)
    whole = MutualPosteriorDivergence(per_batch=None)(model, _batches(11, 5))
    assert whole["mutual_posterior_divergence"].value == pytest.approx(_brute_force(mean, logvar).mean().item())
    assert whole["mutual_posterior_divergence"].count == 11


def test_a_left_over_example_makes_no_pair(with_posterior):
    mean = torch.randn(9, 2)
    found = MutualPosteriorDivergence(per_batch=4)(_model(with_posterior, mean, torch.zeros(9, 2)), _batches(9, 9))
    assert found["mutual_posterior_divergence"].count == 8


def test_standard_errors_cover_the_truth():
    # Repeat the measurement on fresh sets: the scatter of the values is what the standard error claims.
    estimator = MutualPosteriorDivergence(per_batch=None)
    values, errors, stds, std_errors = [], [], [], []
    for _ in range(200):
        statistics = pair_statistics(torch.randn(60, 2).double(), torch.zeros(60, 2).double())
        found = estimator._estimates([statistics], "")
        values.append(found["mutual_posterior_divergence"].value)
        errors.append(found["mutual_posterior_divergence"].standard_error)
        stds.append(found["mutual_posterior_divergence_std"].value)
        std_errors.append(found["mutual_posterior_divergence_std"].standard_error)
    assert torch.tensor(errors).mean() == pytest.approx(torch.tensor(values).std().item(), rel=0.2)
    assert torch.tensor(std_errors).mean() == pytest.approx(torch.tensor(stds).std().item(), rel=0.25)
    # Every dimension brings E(m_i - m_j)^2 / 2 = 1 nat.
    assert torch.tensor(values).mean() == pytest.approx(2.0, abs=0.1)


def test_what_cannot_be_measured_is_said(with_posterior):
    model = with_posterior(lambda i: Independent(Exponential(torch.ones(len(i), 2)), 1), (2,))
    with pytest.raises(ConfigError, match="the posterior is Independent"):
        MutualPosteriorDivergence()(model, _batches(4, 4))
    single = _model(with_posterior, torch.zeros(1, 2), torch.zeros(1, 2))
    with pytest.raises(ShapeError, match="N at least 2"):
        MutualPosteriorDivergence()(single, _batches(1, 1))


def test_fully_collapsed_posteriors_have_no_divergence(with_posterior):
    found = MutualPosteriorDivergence()(_model(with_posterior, torch.ones(6, 2), torch.ones(6, 2)), _batches(6, 3))
    assert found["mutual_posterior_divergence"].value == 0
    assert found["mutual_posterior_divergence_std"].value == 0
    assert found["mutual_posterior_divergence_std"].standard_error is None
