"""delta-VAE: committed rates against closed forms and multivariate Gaussians."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence
from uncollapse.config import BuildContext
from uncollapse.distributions import DiagonalNormal, analytic_kl, kl_per_dimension, standard_normal
from uncollapse.errors import ConfigError
from uncollapse.posteriors import GaussianPosterior
from uncollapse.protocols import DataSpec
from uncollapse_baselines import AR1Normal, AR1Prior, AR1PriorConfig, DeltaMoments, functional

# ----------------------------------------------------------------------------------------------------- delta, static


def rates(mean, logvar):
    zeros = standard_normal(tuple(mean.shape[1:]))
    return kl_per_dimension(DiagonalNormal(mean, logvar), zeros)


def test_limits_are_those_where_a_mean_of_zero_is_delta_away():
    low, high = functional.delta_limits(0.1)
    # Table 3 of DU-VAE compares with delta = 0.1.
    assert low**2 == pytest.approx(0.4932, abs=5e-5)
    assert high**2 == pytest.approx(1.7722, abs=5e-5)
    for delta in (1e-3, 0.1, 1.0, 30.0):
        for limit in functional.delta_limits(delta):
            variance = limit**2
            assert 0.5 * (variance - 1 - math.log(variance)) == pytest.approx(delta, rel=1e-9)
    with pytest.raises(ValueError, match="delta must be positive, found 0"):
        functional.delta_limits(0)


@pytest.mark.parametrize("delta", [0.01, 0.1, 2.0])
def test_every_dimension_is_delta_away_at_least(delta):
    mean, logvar = 4 * torch.randn(500, 3, 2, dtype=torch.float64), 6 * torch.randn(500, 3, 2, dtype=torch.float64)
    found = rates(*DeltaMoments(delta)(mean, logvar))
    assert found.shape == (500, 3, 2)
    assert bool((found >= delta * (1 - 1e-9)).all())
    flat = mean <= 0
    # At the committed rate exactly, whatever the variance: 3.2 nats for DU-VAE's 32 dimensions at 0.1.
    torch.testing.assert_close(found[flat], torch.full_like(found[flat], delta), rtol=1e-9, atol=1e-9)
    assert bool((found[~flat] > delta * (1 + 1e-9)).all())
    collapsed = rates(*DeltaMoments(0.1)(torch.zeros(7, 32), torch.randn(7, 32)))
    torch.testing.assert_close(collapsed.sum(1), torch.full((7,), 3.2))


def test_without_the_root_the_promise_would_not_hold():
    low, high = functional.delta_limits(0.1)
    variance = torch.tensor([(0.5 * (low + high)) ** 2])
    printed = 2 * 0.1 + 1 + variance.log() - variance
    assert rates(printed[None], variance.log()[None]).item() < 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_however_far_the_network_goes(dtype):
    mean = torch.tensor([[-3.0, 0.0, 2.0, 50.0]], dtype=dtype).expand(7, 4).clone().requires_grad_()
    logvar = torch.tensor([-1e4, -60.0, -20.0, 0.0, 20.0, 60.0, 1e4], dtype=dtype)[:, None].expand(7, 4).clone()
    logvar.requires_grad_()
    new_mean, new_logvar = DeltaMoments(0.1)(mean, logvar)
    (new_mean.sin() + new_logvar).sum().backward()
    for t in (new_mean, new_logvar, mean.grad, logvar.grad):
        assert bool(t.isfinite().all())


def test_gradients_are_right():
    mean = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    logvar = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(DeltaMoments(0.3), (mean, logvar))


# --------------------------------------------------------------------------------------------------------- AR(1) prior


def covariance(alpha, steps):
    """Of a sequence with the channels of a step side by side."""
    alpha = torch.as_tensor(alpha, dtype=torch.float64)
    distance = (torch.arange(steps)[:, None] - torch.arange(steps)).abs()
    blocks = alpha[None, None] ** distance[..., None]
    return torch.diag_embed(blocks).permute(0, 2, 1, 3).reshape(steps * len(alpha), -1)


ALPHA = (0.9, -0.4, 0.0)


@pytest.fixture
def sequence():
    return AR1Normal(torch.tensor(ALPHA, dtype=torch.float64), (15,)), covariance(ALPHA, 5)


def test_density_is_that_of_the_multivariate_gaussian(sequence):
    p, sigma = sequence
    z = torch.randn(4, 2, 15, dtype=torch.float64)
    reference = MultivariateNormal(torch.zeros(15, dtype=torch.float64), sigma)
    torch.testing.assert_close(p.log_prob(z), reference.log_prob(z))
    torch.testing.assert_close(p.log_prob_per_dimension(z).sum(-1), reference.log_prob(z))


def test_samples_have_its_covariance(sequence):
    p, sigma = sequence
    z = p.sample((200_000,))
    assert (z.T.cov() - sigma).abs().max() < 0.02
    assert (p.variance - 1).abs().max() == 0


def test_divergence_is_that_of_multivariate_gaussians(sequence):
    p, sigma = sequence
    mean, logvar = torch.randn(6, 15, dtype=torch.float64), torch.randn(6, 15, dtype=torch.float64)
    reference = kl_divergence(
        MultivariateNormal(mean, torch.diag_embed(logvar.exp())),
        MultivariateNormal(torch.zeros(15, dtype=torch.float64), sigma),
    )
    torch.testing.assert_close(analytic_kl(DiagonalNormal(mean, logvar), p), reference)


def test_maps_are_sequences_in_raster_order():
    alpha = torch.tensor([0.8, 0.3], dtype=torch.float64)
    z = torch.randn(3, 2, 2, 4, dtype=torch.float64)
    flat = z.flatten(2).transpose(1, 2).flatten(1)
    maps, sequence = AR1Normal(alpha, (2, 2, 4)), AR1Normal(alpha, (16,))
    torch.testing.assert_close(maps.log_prob(z), sequence.log_prob(flat))
    terms = maps.log_prob_per_dimension(z)
    torch.testing.assert_close(terms.flatten(2).transpose(1, 2).flatten(1), sequence.log_prob_per_dimension(flat))
    mean, logvar = torch.randn_like(z), torch.randn_like(z)
    of_sequence = DiagonalNormal(*(t.flatten(2).transpose(1, 2).flatten(1) for t in (mean, logvar)))
    torch.testing.assert_close(
        analytic_kl(DiagonalNormal(mean, logvar, event_dim=3), maps), analytic_kl(of_sequence, sequence)
    )
    assert maps.sample((5,)).shape == (5, 2, 2, 4)


@pytest.mark.parametrize("steps", [2, 3, 9])
def test_no_factorized_posterior_comes_closer_than_the_committed_rate(steps):
    alpha = torch.tensor([0.95, 0.5], dtype=torch.float64)
    p = AR1Normal(alpha, (2 * steps,))
    committed = functional.ar1_committed_rate(alpha, steps)
    mean = torch.zeros(1, 2 * steps, dtype=torch.float64, requires_grad=True)
    logvar = torch.randn(1, 2 * steps, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([mean, logvar], max_iter=300, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def rate():
        optimizer.zero_grad()
        found = analytic_kl(DiagonalNormal(mean, logvar), p).sum()
        found.backward()
        return found

    optimizer.step(rate)
    assert rate().item() == pytest.approx(committed, rel=1e-9)
    variance = logvar.detach().exp().view(steps, 2)
    torch.testing.assert_close(variance[0], 1 - alpha.square(), rtol=1e-4, atol=1e-6)
    if steps > 2:
        torch.testing.assert_close(variance[1], (1 - alpha.square()) / (1 + alpha.square()), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rate", [0.01, 3.0, 40.0])
def test_correlation_follows_from_the_rate_asked_for(rate):
    alpha = functional.ar1_alpha(rate, steps=16, channels=4)
    assert functional.ar1_committed_rate([alpha] * 4, 16) == pytest.approx(rate, rel=1e-9)
    context = BuildContext(DataSpec((1, 8, 8), "binary"), (64,))
    prior = AR1PriorConfig(rate=rate, channels=4).build(context)
    # The correlation is kept in float32.
    assert prior.committed_rate == pytest.approx(rate, rel=1e-4)
    assert AR1PriorConfig(alpha=0.9).build(context).alpha.tolist() == pytest.approx([0.9])


def test_a_model_with_the_prior_keeps_the_rate():
    torch.manual_seed(0)
    prior = AR1PriorConfig(rate=3.0).build(BuildContext(DataSpec((4,), "real"), (6,)))
    posterior = GaussianPosterior((5,), (6,))
    rate = analytic_kl(posterior(torch.randn(50, 5)), prior())
    assert bool((rate > 3.0).all())
    assert kl_divergence(Independent(Normal(torch.zeros(6), 1.0), 1), Independent(Normal(torch.zeros(6), 1.0), 1)) == 0


@pytest.mark.parametrize(
    ("fields", "latent", "message"),
    [
        ({"channels": 4}, (6,), r"a latent of shape \(6,\) is no sequence of at least two steps of 4 channels"),
        ({"channels": 6}, (6,), "no sequence of at least two steps"),
        ({"alpha": [0.1, 0.2]}, (6,), "expected one correlation, or 1 of them, one for each channel; found 2"),
        ({"alpha": [0.1, 0.2]}, (3, 2, 2), "or 3 of them"),
    ],
)
def test_latents_that_are_no_sequence_are_refused(fields, latent, message):
    with pytest.raises(ConfigError, match=message):
        AR1PriorConfig(**fields).build(BuildContext(DataSpec((4,), "real"), latent))


def test_impossible_correlations_are_refused():
    with pytest.raises(ValueError, match="expected correlations between -1 and 1, found 1"):
        AR1PriorConfig(alpha=1.0)
    with pytest.raises(ValueError, match="expected correlations between -1 and 1, found -2"):
        AR1PriorConfig(alpha=[0.5, -2])
    with pytest.raises(ConfigError, match="no sequence"):
        AR1Prior((2, 4, 4), [0.5])
