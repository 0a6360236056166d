"""The bound and its terms against closed forms."""

from __future__ import annotations

import pytest
import torch
from uncollapse import Batch
from uncollapse.errors import ConfigError
from uncollapse.estimators import ELBOEstimator


def test_bound_matches_the_closed_form(linear_gaussian_case, batches_of):
    model, x, expected = linear_gaussian_case
    found = ELBOEstimator(samples=4000)(model, batches_of(x, 3))
    kl = float(expected["kl_q_prior"].mean())
    elbo = float(expected["exact_elbo"].mean())
    assert found["rate"].value == pytest.approx(kl, rel=1e-8)
    assert found["rate"].note == "analytic"
    assert found["elbo"].value == pytest.approx(elbo, abs=0.05)
    assert found["elbo"].value == pytest.approx(-found["rate"].value - found["distortion"].value, rel=1e-12)
    assert {e.unit for e in found.values()} == {"nats"}
    assert {e.count for e in found.values()} == {len(x)}


def test_monte_carlo_rate_agrees_and_says_so(linear_gaussian_case, batches_of):
    model, x, expected = linear_gaussian_case
    rate = ELBOEstimator(samples=4000, rate="monte_carlo")(model, batches_of(x, 3))["rate"]
    assert rate.value == pytest.approx(float(expected["kl_q_prior"].mean()), abs=0.05)
    assert rate.value != pytest.approx(float(expected["kl_q_prior"].mean()), rel=1e-8)
    assert rate.note.startswith("Monte Carlo")


def test_samples_are_drawn_some_at_a_time(linear_gaussian_case, batches_of):
    model, x, _ = linear_gaussian_case
    ELBOEstimator(samples=10, memory="2 KB")(model, batches_of(x, 4))
    calls = model.decoder.calls[2:]  # The first two measure what a latent takes.
    assert sum(calls) == 10 * len(x)
    assert max(calls) < 4 * 10


def test_exact_posterior_has_a_tight_bound(oracle, linear_gaussian, batches_of):
    reference = oracle("iw_linear_gaussian")
    inputs = reference["inputs"]["orthogonal_exact_posterior"]
    w, b, x = (torch.as_tensor(inputs[k]) for k in ("W", "b", "x"))
    model = linear_gaussian(w, b, float(inputs["sigma"]))
    elbo = ELBOEstimator(samples=1, rate="monte_carlo")(model, batches_of(x, 5))["elbo"].value
    # With a Monte Carlo rate every log weight is log p(x), whatever the draw.
    truth = float(reference["expected"]["orthogonal_exact_posterior"]["true_log_px"].mean())
    assert elbo == pytest.approx(truth, abs=1e-9)


def test_analytic_rate_of_an_unknown_pair_is_an_error(with_posterior):
    flow = torch.distributions.TransformedDistribution
    tanh = [torch.distributions.transforms.TanhTransform()]
    model = with_posterior(
        lambda i: flow(
            torch.distributions.Independent(torch.distributions.Normal(torch.zeros(len(i), 2), 1.0), 1), tanh
        ),
        (2,),
    )
    x = torch.arange(3.0)[:, None]
    with pytest.raises(ConfigError, match="no known closed form"):
        ELBOEstimator(rate="analytic")(model, lambda: iter([Batch(x)]))
