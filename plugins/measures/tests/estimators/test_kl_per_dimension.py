"""The divergence of every latent dimension against closed forms."""

from __future__ import annotations

import pytest
import torch
from uncollapse import Batch
from uncollapse.distributions import kl_per_dimension
from uncollapse.errors import ConfigError
from uncollapse_measures.estimators import KLPerDimension


def test_a_posterior_without_a_closed_form_is_an_error(with_posterior):
    flow = torch.distributions.TransformedDistribution
    tanh = [torch.distributions.transforms.TanhTransform()]
    model = with_posterior(
        lambda i: flow(
            torch.distributions.Independent(torch.distributions.Normal(torch.zeros(len(i), 2), 1.0), 1), tanh
        ),
        (2,),
    )
    with pytest.raises(ConfigError, match="kl_per_dimension: the posterior is TransformedDistribution"):
        KLPerDimension()(model, lambda: iter([Batch(torch.arange(3.0)[:, None])]))


def test_kl_per_dimension_sums_to_the_rate(linear_gaussian_case, batches_of):
    model, x, expected = linear_gaussian_case
    found = KLPerDimension()(model, batches_of(x, 2))["kl_per_dimension"]
    with torch.no_grad():
        truth = kl_per_dimension(model.infer(x), model.p_z()).mean(0)
    assert found.per_dimension == pytest.approx(truth.tolist(), rel=1e-12)
    assert found.value == pytest.approx(sum(found.per_dimension), rel=1e-12)
    assert found.value == pytest.approx(float(expected["kl_q_prior"].mean()), rel=1e-8)


def test_kl_per_dimension_reads_torch_normals(with_posterior):
    means = torch.tensor([[0.0, 1.0], [0.0, -1.0], [0.0, 2.0]])
    model = with_posterior(
        lambda i: torch.distributions.Independent(torch.distributions.Normal(means[i], torch.ones(2)), 1), (2,)
    )
    found = KLPerDimension()(model, lambda: iter([Batch(torch.arange(2.0)[:, None]), Batch(torch.tensor([[2.0]]))]))
    assert found["kl_per_dimension"].per_dimension == pytest.approx((0.0, (1 + 1 + 4) / 2 / 3), abs=1e-7)
