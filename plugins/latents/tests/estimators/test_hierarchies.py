"""What every estimator makes of a model with two levels of latents: a number that is right, or a reason."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close
from uncollapse.errors import ConfigError
from uncollapse.estimators import ActiveUnits, ELBOEstimator, ImportanceWeightedNLL, MutualInformation
from uncollapse.likelihoods import BernoulliLikelihood
from uncollapse.model import LatentVariableModel
from uncollapse.objectives import ELBO
from uncollapse.objectives.free_bits import FreeBits
from uncollapse.posteriors import GaussianPosterior
from uncollapse.priors import StandardNormalPrior
from uncollapse.protocols import Batch, Progress
from uncollapse.samplers import AncestralSampler
from uncollapse_images.encoders import Tower, TwoTowerConvEncoder
from uncollapse_latents.decoders import HVAEConvDecoder
from uncollapse_latents.estimators import RatePerLevel
from uncollapse_latents.posteriors import TwoLevelPosterior
from uncollapse_latents.priors import GaussianMixturePrior, TwoLevelPrior, VampPrior
from uncollapse_measures.estimators import KLPerDimension, MutualPosteriorDivergence, ReconstructionError

X, D1, D2, N = (1, 6, 6), 3, 2, 12
SMALL = Tower(channels=(3, 2), kernel_size=3, stride=2)


def hierarchy(top="standard_normal"):
    torch.manual_seed(0)
    encoder = TwoTowerConvEncoder(X, SMALL, SMALL)
    posterior = TwoLevelPosterior(encoder.feature_shape, D1, D2, hidden=4)
    tops = {
        "standard_normal": lambda: StandardNormalPrior((D2,)),
        "vampprior": lambda: VampPrior(X, 5),
        "gaussian_mixture": lambda: GaussianMixturePrior((D2,), 3),
    }
    prior = TwoLevelPrior(tops[top](), D2, D1, (5,))
    decoder = HVAEConvDecoder((D1 + D2,), X, BernoulliLikelihood(X), (D1, D2), 4, (3,))
    with torch.no_grad():
        # Narrow posteriors that differ from each other, so that there is something to measure.
        for head in (posterior.top_head, posterior.bottom_head):
            mean, logvar = head.weight.chunk(2)
            mean.mul_(6)
            logvar.zero_()
            head.bias.chunk(2)[1].fill_(-2)
    return LatentVariableModel(encoder, posterior, prior, decoder).double()


def data():
    return (torch.rand(N, *X, generator=torch.Generator().manual_seed(1)) > 0.5).double()


def batches(size=5):
    return lambda: (Batch(x) for x in data().split(size))


def measured(estimator, model):
    torch.manual_seed(3)
    return estimator(model, batches())


@pytest.mark.parametrize("top", ["standard_normal", "vampprior", "gaussian_mixture"])
def test_levels_sum_to_the_rate(top):
    """The Monte Carlo rate of other draws is the same number, up to the noise of both."""
    model, samples = hierarchy(top), 2000
    levels = measured(RatePerLevel(samples), model)
    with torch.no_grad():
        inference = model(data(), samples=samples)
        rates = (inference.log_q - inference.log_p_z).mean(1)
    total = levels["rate_top"].value + levels["rate_bottom"].value
    assert abs(total - float(rates.mean())) < 5 * 2**0.5 * float(rates.std()) / samples**0.5
    assert float(rates.std()) / samples**0.5 < 0.01 * total
    assert levels["rate_bottom"].value > 0.5
    assert levels["rate_top"].value > 0.5


def test_levels_have_closed_forms():
    model = hierarchy()
    found = measured(RatePerLevel(samples=1), model)
    q, p = model.infer(data()), model.p_z()
    assert_close(found["rate_top"].value, float(torch.distributions.kl_divergence(q.top, p.top).mean().detach()))
    torch.manual_seed(3)
    bottoms = []
    with torch.no_grad():
        for x in data().split(5):
            q = model.infer(x)
            z2 = q.top.rsample_and_log_prob((1,))[0]
            one, other = q.bottom(z2), p.bottom(z2)
            ratio = one.variance / other.variance
            terms = ratio - 1 - ratio.log() + (one.mean - other.mean).square() / other.variance
            bottoms.append(0.5 * terms.sum(-1)[0])
    assert_close(found["rate_bottom"].value, float(torch.cat(bottoms).mean()))
    assert found["rate_top"].note == "analytic"
    assert found["rate_bottom"].count == N


def test_a_collapsed_top_level_shows():
    model = hierarchy()
    with torch.no_grad():
        model.posterior.top_head.weight.zero_()
        model.posterior.top_head.bias.zero_()
    found = measured(RatePerLevel(samples=3), model)
    assert found["rate_top"].value == 0
    assert found["rate_bottom"].value > 0.5


def test_levels_are_asked_of_hierarchies_only():
    model = hierarchy()
    other = LatentVariableModel(
        model.encoder, GaussianPosterior((2, 8), (5,)).double(), StandardNormalPrior((5,)), model.decoder
    )
    with pytest.raises(
        ConfigError, match=r"rate_per_level: the posterior is DiagonalNormal and the prior StandardNormal"
    ):
        RatePerLevel()(other, batches())


@pytest.mark.parametrize("variant", ["b2", "minibatch"])
def test_mutual_information_is_that_of_all_pairs(variant):
    """``log q(z_i|x_i) - log mean_j q(z_i|x_j)``, every pair by its own call."""
    model = hierarchy()
    found = measured(MutualInformation(variant, minibatch_size=4, pairs_at_once=64), model)
    torch.manual_seed(3)
    terms, z = [], []
    with torch.no_grad():
        for x in data().split(5):
            z.append(model.infer(x).rsample_and_log_prob((1,))[0][0])
        z = torch.cat(z)
        for i in range(N):
            group = range(i // 4 * 4, i // 4 * 4 + 4) if variant == "minibatch" else range(N)
            log_q = {j: model.infer(data()[j : j + 1]).log_prob(z[i : i + 1])[0] for j in {*group, i}}
            among = torch.stack([log_q[j] for j in group])
            terms.append(log_q[i] - among.logsumexp(0) + math.log(len(among)))
    (estimate,) = found.values()
    assert_close(estimate.value, float(torch.stack(terms).mean()), rtol=1e-6, atol=1e-8)
    assert estimate.value > 0.3


def test_bounds_agree():
    """With one sample the importance-weighted bound is the ELBO; with more it is below the negative ELBO."""
    model = hierarchy("vampprior")
    elbo = measured(ELBOEstimator(samples=1), model)
    one = measured(ImportanceWeightedNLL(samples=1), model)
    assert_close(one["nll"].value, -elbo["elbo"].value, rtol=1e-9, atol=0)
    many = measured(ImportanceWeightedNLL(samples=50), model)
    assert many["nll"].value < one["nll"].value
    assert elbo["rate"].note.startswith("Monte Carlo")


def test_means_are_those_of_samples():
    model = hierarchy()
    found = measured(ActiveUnits(samples=500), model)["active_units"]
    assert found.per_dimension is not None
    assert len(found.per_dimension) == D1 + D2
    with torch.no_grad():
        top = model.infer(data()).top.mean.var(0)
    # The last dimensions are the top level, whose mean has a closed form.
    assert_close(torch.tensor(found.per_dimension[D1:], dtype=torch.float64), top, rtol=0.1, atol=0.01)
    error = measured(ReconstructionError(), model)["reconstruction_error"]
    assert 0 < error.value < 36


@pytest.mark.parametrize(
    ("estimator", "reason"),
    [
        (KLPerDimension(), "kl_per_dimension: the posterior is TwoLevelNormal and the prior TwoLevelNormal, and only"),
        (
            MutualPosteriorDivergence(),
            "the posterior is TwoLevelNormal, and pairwise divergences are known for diagonal",
        ),
    ],
)
def test_what_does_not_apply_says_why(estimator, reason):
    with pytest.raises(ConfigError, match=reason):
        measured(estimator, hierarchy())


def test_samples_come_from_the_top_down():
    torch.manual_seed(0)
    x = AncestralSampler()(hierarchy("vampprior"), 7)
    assert x.shape == (7, *X)


# --------------------------------------------------------------------------------------------------------- free bits


def test_a_rate_of_every_dimension_sums_to_the_rate():
    model = hierarchy()
    inference = model(data(), samples=4)
    rates = inference.rate_per_dimension()
    assert rates.shape == (N, D1 + D2)
    assert_close(rates.sum(1), inference.rate())
    # The top's terms are the ones of its own Gaussians.
    z2, q, p = inference.z[..., D1:], inference.q.top, inference.p_z.top
    expected = (q.log_prob_per_dimension(z2) - p.log_prob_per_dimension(z2)).mean(0)
    assert_close(rates[:, D1:], expected)
    assert inference.rate_per_dimension("analytic") is None


def test_free_bits_per_dimension_need_a_top_of_gaussians():
    objective = ELBO(free_bits=FreeBits(0.5, "batch_per_dimension"))
    loss = objective(hierarchy(), Batch(data()), Progress())
    rates = loss.inference.rate_per_dimension()
    assert_close(loss.total, loss.terms["distortion"].mean() + rates.mean(0).clamp(min=0.5).sum())
    with pytest.raises(
        ConfigError, match=r"needs a rate of every dimension, .* posterior is TwoLevelNormal, the prior TwoLevel"
    ):
        objective(hierarchy("vampprior"), Batch(data()), Progress())
