"""Mutual information: three estimators against released code, brute force, and a known truth."""

from __future__ import annotations

import math

import pytest
import torch
from numpy.testing import assert_allclose
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import AffineTransform, ComposeTransform, SigmoidTransform
from uncollapse import Batch, DiagonalNormal
from uncollapse.errors import ShapeError
from uncollapse.estimators import MutualInformation, aggregate, log_aggregate_posterior, mutual_information_terms

KEYS = {
    "analytic": "duvae_calc_mi_full_aggregate",
    "b2": "infovae_B2",
    "minibatch": "lagging_calc_mi_minibatch_weighted",
}


def _brute_force(mean, logvar, z):
    """``log (1/N) sum_j q(z_i|x_j)`` from all differences at once."""
    log_q = Normal(mean, (0.5 * logvar).exp()).log_prob(z[:, None]).sum(-1)
    return log_q.logsumexp(1) - math.log(len(mean))


@pytest.mark.parametrize("variant", KEYS)
@pytest.mark.parametrize("name", ["small", "big", "collapsed"])
def test_matches_released_code(oracle, name, variant):
    reference = oracle("mi_au")
    case, expected = reference["inputs"][name], reference["expected"][name]
    mean, logvar, z = (torch.as_tensor(case[k]) for k in ("mu", "logvar", "z"))
    sizes = [int(n) for n in case["batch_sizes"]]
    terms = mutual_information_terms(mean, logvar, z, variant, sizes)
    assert terms.shape == (len(mean),)
    assert_allclose(terms.mean(), expected[KEYS[variant]], rtol=reference["rtol"], atol=1e-10)


def test_b2_never_exceeds_log_n():
    mean = 100 * torch.randn(30, 2)
    terms = mutual_information_terms(mean, torch.zeros(30, 2), mean + torch.randn(30, 2), "b2")
    assert terms.max() <= math.log(30) + 1e-9
    assert terms.min() == pytest.approx(math.log(30), abs=0.1)


@pytest.mark.parametrize("logvar", [1.0, -5.0, -12.0, -20.0, -27.0])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_aggregate_matches_brute_force_down_to_narrow_posteriors(logvar, offset):
    mean = offset + torch.randn(60, 5, dtype=torch.float64)
    mean[1] = mean[0] + 1e-6  # two posteriors that overlap even when narrow
    logvars = logvar + 0.3 * torch.randn(60, 5, dtype=torch.float64)
    z = mean + (0.5 * logvars).exp() * torch.randn(60, 5, dtype=torch.float64)
    for pairs in (1, 200, 10**6):
        assert_allclose(log_aggregate_posterior(mean, logvars, z, pairs), _brute_force(mean, logvars, z), atol=3e-6)


def test_both_ways_to_compute_pairs_are_used_and_agree(monkeypatch):
    used = []
    for name in ("_products", "_differences"):
        original = getattr(aggregate, name)
        monkeypatch.setattr(aggregate, name, lambda *a, n=name, f=original: (used.append(n), f(*a))[1])
    mean, z = torch.randn(20, 3), torch.randn(20, 3)
    for logvar in (0.0, -30.0):
        log_aggregate_posterior(mean, torch.full_like(mean, logvar), z)
    assert used == ["_products", "_differences"]


def test_memory_is_bounded_by_pairs(monkeypatch):
    largest = []
    original = aggregate._products

    def watched(*arguments):
        inner = original(*arguments)
        return lambda z: (lambda out: (largest.append(out.numel()), out)[1])(inner(z))

    monkeypatch.setattr(aggregate, "_products", watched)
    mean = torch.randn(100, 2)
    log_aggregate_posterior(mean, torch.zeros(100, 2), mean, pairs_at_once=350)
    assert max(largest) == 300
    assert sum(largest) == 100 * 100


def test_shapes_are_checked():
    with pytest.raises(ShapeError, match="expected mean and logvar"):
        log_aggregate_posterior(torch.zeros(3, 2), torch.zeros(3, 2), torch.zeros(3, 4))


def _table(with_posterior, mean, logvar):
    return with_posterior(lambda i: DiagonalNormal(mean[i], logvar[i], mean.dim() - 1), mean.shape[1:])


def _batches(n, size):
    return lambda: iter([Batch(x) for x in torch.arange(float(n))[:, None].split(size)])


def test_separated_posteriors_reach_the_cap_and_equal_ones_zero(with_posterior):
    apart = _table(with_posterior, 100.0 * torch.arange(40.0)[:, None].expand(40, 2), torch.zeros(40, 2))
    found = MutualInformation()(apart, _batches(40, 7))["mutual_information"]
    assert abs(found.value - math.log(40)) < 3 * found.standard_error + 1e-9
    assert "log 40 = 3.69 nats" in found.note
    same = _table(with_posterior, torch.ones(40, 2), torch.zeros(40, 2))
    for variant in KEYS:
        name = "mutual_information" + ("" if variant == "b2" else f"_{variant}")
        found = MutualInformation(variant)(same, _batches(40, 7))[name]
        assert abs(found.value) <= 3 * found.standard_error + 1e-9
        assert (found.count, found.unit) == (40, "nats")


def test_an_estimate_above_its_cap_says_why(with_posterior):
    # With an entropy in closed form, the noise of the draws stays in the aggregate's term.
    model = _table(with_posterior, 100.0 * torch.arange(40.0)[:, None].expand(40, 8), torch.zeros(40, 8))
    seen = set()
    for seed in range(8):
        torch.manual_seed(seed)
        found = MutualInformation("analytic")(model, _batches(40, 7))["mutual_information_analytic"]
        above = found.value > math.log(40)
        assert ("above that by the noise of its draws" in found.note) == above
        seen.add(above)
        exact = MutualInformation()(model, _batches(40, 7))["mutual_information"]
        assert exact.value == pytest.approx(math.log(40), abs=1e-9)
        assert "above" not in exact.note
    assert seen == {True, False}


def test_known_information_of_a_gaussian_channel(with_posterior):
    # z = m + noise with m ~ N(0, 1), noise ~ N(0, 1/4): I = log(5)/2 nats a dimension.
    mean = torch.randn(4000, 2)
    found = MutualInformation()(_table(with_posterior, mean, torch.full((4000, 2), -math.log(4))), _batches(4000, 999))
    estimate = found["mutual_information"]
    assert estimate.value == pytest.approx(math.log(5), abs=4 * estimate.standard_error)
    assert estimate.standard_error < 0.03


def test_minibatch_estimate_follows_its_own_size_not_that_of_the_pass(with_posterior):
    mean = 100.0 * torch.arange(45.0)[:, None]
    model = _table(with_posterior, mean, torch.zeros(45, 1))
    found = MutualInformation("minibatch", minibatch_size=10)(model, _batches(45, 32))["mutual_information_minibatch"]
    # Separated posteriors reach each minibatch's cap: four of log 10 and a short one of log 5, weighted by size.
    expected = (40 * math.log(10) + 5 * math.log(5)) / 45
    assert abs(found.value - expected) < 3 * found.standard_error
    assert "log 10" in found.note


def test_spatial_latents_are_flattened(with_posterior):
    mean = torch.randn(30, 2, 3, 3)
    flat, spatial = (_table(with_posterior, m, torch.zeros_like(m)) for m in (mean.flatten(1), mean))
    values = []
    for model in (flat, spatial):
        torch.manual_seed(3)
        values.append(MutualInformation()(model, _batches(30, 8))["mutual_information"].value)
    assert values[0] == pytest.approx(values[1], rel=1e-12)


@pytest.mark.parametrize("variant", KEYS)
@pytest.mark.parametrize("pairs_at_once", [50, 10**6])
def test_a_flow_is_evaluated_by_its_own_density(with_posterior, variant, pairs_at_once):
    # An affine flow conditioned on x is a Gaussian in disguise; a shared sigmoid on top changes no information.
    mean, scale = torch.randn(50, 2).double(), torch.rand(50, 2).double() + 0.3

    def flow(i):
        base = Independent(Normal(torch.zeros(len(i), 2, dtype=torch.float64), 1.0), 1)
        bend = ComposeTransform([AffineTransform(mean[i], scale[i], event_dim=1), SigmoidTransform()])
        return TransformedDistribution(base, [bend])

    model = with_posterior(flow, (2,))
    name = "mutual_information" + ("" if variant == "b2" else f"_{variant}")
    torch.manual_seed(7)
    found = MutualInformation(variant, 20, pairs_at_once)(model, _batches(50, 16))[name]
    torch.manual_seed(7)
    noise = torch.cat([torch.randn(n, 2, dtype=torch.float64) for n in (16, 16, 16, 2)])
    logvar = 2 * scale.log()
    own = Normal(mean, scale).log_prob(mean + scale * noise).sum(1)
    groups = [20, 20, 10] if variant == "minibatch" else [50]
    parts = zip(*(t.split(groups) for t in (mean, logvar, mean + scale * noise)), strict=True)
    expected = (own - torch.cat([_brute_force(*p) for p in parts])).mean().item()
    assert found.value == pytest.approx(expected, rel=1e-6)
    assert found.count == 50
    assert ("entropy estimated" in found.note) == (variant != "b2")
