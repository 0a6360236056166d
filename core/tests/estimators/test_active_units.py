"""Active units: the released threshold, batching, and posteriors without a mean."""

from __future__ import annotations

import pytest
import torch
from numpy.testing import assert_allclose
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import AffineTransform
from uncollapse import Batch, DiagonalNormal
from uncollapse.errors import ShapeError
from uncollapse.estimators import ActiveUnits, active_units


@pytest.mark.parametrize("name", ["small", "big", "collapsed"])
@pytest.mark.parametrize("size", [1000, 3])
def test_matches_released_code(oracle, with_posterior, name, size):
    reference = oracle("mi_au")
    case, expected = reference["inputs"][name], reference["expected"][name]
    means = torch.as_tensor(case["mu"])
    count, variance = active_units(means, float(case["delta_au"]))
    assert count == int(expected["active_units"])
    assert_allclose(variance, expected["au_variance_unbiased"], rtol=reference["rtol"], atol=1e-10)

    model = with_posterior(lambda i: DiagonalNormal(means[i], torch.zeros_like(means[i])), means.shape[1:])
    indices = torch.arange(float(len(means)))[:, None]
    found = ActiveUnits(float(case["delta_au"]))(model, lambda: iter([Batch(x) for x in indices.split(size)]))
    estimate = found["active_units"]
    assert (estimate.value, estimate.unit, estimate.count) == (count, "units", len(means))
    assert_allclose(estimate.per_dimension, expected["au_variance_unbiased"], rtol=reference["rtol"], atol=1e-10)


def test_threshold_itself_is_active():
    # Means at ±0.5 have the unbiased variance 0.5 exactly.
    means = torch.tensor([[0.5], [-0.5]], dtype=torch.float64)
    assert active_units(means, threshold=0.5)[0] == 1
    assert active_units(means, threshold=0.5 + 1e-12)[0] == 0


def test_variance_survives_a_large_common_offset(with_posterior):
    means = 1e6 + torch.randn(50, 2, dtype=torch.float64)
    model = with_posterior(lambda i: DiagonalNormal(means[i], torch.zeros_like(means[i])), (2,))
    indices = torch.arange(50.0)[:, None]
    found = ActiveUnits()(model, lambda: iter([Batch(x) for x in indices.split(7)]))["active_units"]
    assert_allclose(found.per_dimension, means.var(0), rtol=1e-8)


def test_noise_of_sampled_means_is_no_activity(with_posterior):
    # A flow has no mean in closed form. Means of 16 samples vary by 1/16, six times the threshold, in a model where
    # nothing depends on x; the second dimension really moves.
    truth = torch.stack([torch.zeros(2000), 0.5 * torch.randn(2000)], 1)

    def flow(i):
        base = Independent(Normal(torch.zeros(len(i), 2), 1.0), 1)
        return TransformedDistribution(base, AffineTransform(truth[i], 1.0, event_dim=1))

    model = with_posterior(flow, (2,))
    indices = torch.arange(2000.0)[:, None]
    found = ActiveUnits(samples=16)(model, lambda: iter([Batch(x) for x in indices.split(512)]))["active_units"]
    assert found.value == 1
    assert found.per_dimension == pytest.approx((0.0, 0.25), abs=0.02)
    assert "16 samples" in found.note


def test_one_example_has_no_variance(with_posterior):
    model = with_posterior(lambda i: DiagonalNormal(torch.zeros(len(i), 2), torch.zeros(len(i), 2)), (2,))
    with pytest.raises(ShapeError, match=r"with N at least 2, found \(1, 2\)"):
        ActiveUnits()(model, lambda: iter([Batch(torch.zeros(1, 1))]))
    with pytest.raises(ShapeError):
        active_units(torch.zeros(1, 3))
