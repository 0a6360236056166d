"""The two-level prior against its formula, with every kind of top, and wired to a two-level posterior."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal
from torch.testing import assert_close
from uncollapse.capabilities import supports
from uncollapse.config import BuildContext
from uncollapse.decoders import MLPDecoder
from uncollapse.errors import ConfigError
from uncollapse.likelihoods import BernoulliLikelihood
from uncollapse.model import LatentVariableModel
from uncollapse.plugins import registry
from uncollapse.posteriors import GaussianPosterior
from uncollapse.priors import StandardNormalPrior
from uncollapse.protocols import Bindable, DataSpec, TopBindable
from uncollapse_images.encoders import Tower, TwoTowerConvEncoder
from uncollapse_latents.distributions import TwoLevel, TwoLevelNormal
from uncollapse_latents.posteriors import TwoLevelPosterior
from uncollapse_latents.priors import GaussianMixturePrior, TwoLevelPrior, VampPrior

X, D1, D2, K = (1, 8, 8), 3, 2, 7
DOUBLE = torch.float64
SMALL = Tower(channels=(3, 2), kernel_size=3, stride=2)


def gated(layer: nn.Linear, x: Tensor) -> Tensor:
    (w, v), (b, c) = layer.weight.chunk(2), layer.bias.chunk(2)
    return (x @ w.T + b) * torch.sigmoid(x @ v.T + c)


def bottom_density(prior: TwoLevelPrior, z: Tensor) -> Tensor:
    h = z[..., D1:]
    for layer in prior.net:
        h = gated(layer, h)
    mean, logvar = (h @ prior.head.weight.T + prior.head.bias).chunk(2, -1)
    return Independent(Normal(mean, (0.5 * logvar.clamp(-6, 2)).exp()), 1).log_prob(z[..., :D1])


def vamp_model(vamp: VampPrior | None = None) -> LatentVariableModel:
    encoder = TwoTowerConvEncoder(X, SMALL, SMALL)
    posterior = TwoLevelPosterior(encoder.feature_shape, D1, D2, hidden=4)
    prior = TwoLevelPrior(vamp or VampPrior(X, K), D2, D1, (5, 4))
    decoder = MLPDecoder((D1 + D2,), X, BernoulliLikelihood(X), (6,))
    return LatentVariableModel(encoder, posterior, prior, decoder).double()


# ------------------------------------------------------------------------------------------------------------- density


@pytest.mark.parametrize("top", [StandardNormalPrior((D2,)), GaussianMixturePrior((D2,), 4)], ids=["normal", "mixture"])
def test_density(top: nn.Module) -> None:
    torch.manual_seed(0)
    prior = TwoLevelPrior(top, D2, D1, (5, 4)).double()
    p = prior()
    assert (p.batch_shape, p.event_shape) == ((), (D1 + D2,))
    assert isinstance(p, TwoLevelNormal) == isinstance(top, StandardNormalPrior)
    z = torch.randn(4, 6, D1 + D2, dtype=DOUBLE)
    assert_close(p.log_prob(z), top().log_prob(z[..., D1:]) + bottom_density(prior, z), rtol=1e-10, atol=1e-10)
    assert p.sample((9,)).shape == (9, D1 + D2)


def test_a_vampprior_on_top_is_a_mixture_of_the_top_posteriors() -> None:
    torch.manual_seed(0)
    model = vamp_model()
    prior: TwoLevelPrior = model.prior
    z = torch.randn(5, D1 + D2, dtype=DOUBLE)
    u = prior.top.pseudo_inputs.clamp(0, 1)
    q = model.infer(u)
    assert isinstance(q, TwoLevel)
    mean, logvar = q.top.mean, q.top.logvar
    components = Independent(Normal(mean, (0.5 * logvar).exp()), 1)
    expected = components.log_prob(z[:, None, D1:]).exp().mean(1).log() + bottom_density(prior, z)
    assert_close(model.p_z().log_prob(z), expected, rtol=1e-10, atol=1e-10)


# -------------------------------------------------------------------------------------------------------------- wiring


def test_pseudo_inputs_go_through_the_top_tower_alone() -> None:
    model = vamp_model()
    assert supports(model.prior, TopBindable)
    assert not supports(model.prior, Bindable)
    with patch.object(model.encoder.bottom_tower, "forward", side_effect=AssertionError("not needed")):
        log_p = model.p_z().log_prob(torch.randn(4, D1 + D2, dtype=DOUBLE)).sum()
    log_p.backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}
    parts = {name.split(".")[0] + "." + name.split(".")[1] for name in reached}
    assert parts == {"encoder.top_tower", "posterior.top_head", "prior.top", "prior.net", "prior.head"}


def test_the_network_is_the_model_s_and_follows_its_copies() -> None:
    model = vamp_model()
    assert [n for n in model.state_dict() if n.startswith("prior.top")] == ["prior.top.pseudo_inputs"]
    other, z = copy.deepcopy(model), torch.randn(4, D1 + D2, dtype=DOUBLE)
    before = model.p_z().log_prob(z)
    assert_close(other.p_z().log_prob(z), before)
    with torch.no_grad():
        for p in other.encoder.parameters():
            p.add_(1.0)
    assert bool((other.p_z().log_prob(z) != before).all())
    assert_close(model.p_z().log_prob(z), before, rtol=0, atol=0)


def test_a_vampprior_on_top_wants_a_posterior_with_levels() -> None:
    encoder = TwoTowerConvEncoder(X, SMALL, SMALL)
    prior = TwoLevelPrior(VampPrior(X, K), D2, D1, (4,))
    decoder = MLPDecoder((D1 + D2,), X, BernoulliLikelihood(X), (6,))
    model = LatentVariableModel(encoder, GaussianPosterior(encoder.feature_shape, (D1 + D2,)), prior, decoder)
    with pytest.raises(ConfigError, match=r"model\.posterior: .* GaussianPosterior has no levels; use the posterior"):
        model.p_z()


def test_an_encoder_without_towers_serves_both_levels() -> None:
    model = vamp_model()
    model.encoder = nn.Flatten()
    model.posterior = TwoLevelPosterior((64,), D1, D2, hidden=4).double()
    z, u = torch.randn(4, D1 + D2, dtype=DOUBLE), model.prior.top.inputs()
    q: TwoLevel = model.infer(u)
    expected = q.top.log_prob(z[:, None, D1:]).logsumexp(1) - math.log(K)
    assert_close(model.p_z().top.log_prob(z[:, D1:]), expected)


def test_a_vampprior_of_both_levels_is_a_mixture_of_whole_posteriors() -> None:
    """Without levels of its own: as MIM writes it, ``p(z) = 1/K sum_k q(z|u_k)`` over all of ``z``."""
    torch.manual_seed(0)
    model = vamp_model()
    model = LatentVariableModel(model.encoder, model.posterior, VampPrior(X, K), model.decoder).double()
    z, u = torch.randn(4, 2, D1 + D2, dtype=DOUBLE), model.prior.inputs()
    each = torch.stack([model.infer(u[k : k + 1]).log_prob(z) for k in range(K)])
    expected = each.logsumexp(0) - math.log(K)
    assert_close(model.p_z().log_prob(z), expected, rtol=1e-10, atol=1e-10)
    assert model.p_z().sample((50,)).shape == (50, D1 + D2)


def test_stored_examples_reach_the_top() -> None:
    model = vamp_model(VampPrior(X, K, std=0.0))
    x, grey = torch.ones(3, *X, dtype=DOUBLE), torch.rand(20, *X, dtype=DOUBLE)
    model.initialize(x, lambda count: grey[:count])
    assert_close(model.prior.top.pseudo_inputs.detach(), grey[:K])
    assert TwoLevelPrior(StandardNormalPrior((D2,)), D2, D1).stored_examples == 0


# -------------------------------------------------------------------------------------------------------------- config


def build(context: BuildContext, **fields: object) -> TwoLevelPrior:
    config = registry().find("prior", "two_level")
    assert config is not None
    return config.model_validate(fields).build(context)


CONTEXT = BuildContext(DataSpec(X, "binary"), latent_shape=(5,), latent_levels=(3, 2))


def test_the_levels_are_those_of_the_posterior() -> None:
    prior = build(CONTEXT, top={"type": "gaussian_mixture", "components": 4}, hidden=[6])
    assert prior().event_shape == (5,)
    assert prior.bottom_dim == 3
    assert isinstance(prior.top, GaussianMixturePrior)
    assert prior.top.mean.shape == (4, 2)
    assert isinstance(build(CONTEXT).top, StandardNormalPrior)
    # Without levels of the posterior, top_dim says where the latent is cut.
    assert build(replace(CONTEXT, latent_levels=()), top_dim=1).bottom_dim == 4


@pytest.mark.parametrize(
    ("context", "fields", "message"),
    [
        (CONTEXT, {"top_dim": 3}, r"model\.prior\.top_dim: found 3, but the top level of the posterior has 2 dim"),
        (
            replace(CONTEXT, latent_levels=()),
            {},
            r"model\.prior: 'two_level' needs a latent of two levels, .* has 1; use",
        ),
        (
            replace(CONTEXT, latent_levels=()),
            {"top_dim": 5},
            r"model\.prior\.top_dim: a top level of 5 dimensions does",
        ),
        (
            BuildContext(DataSpec(X, "binary"), (4, 2, 2)),
            {"top_dim": 2},
            r"model\.prior\.top_dim: .* shape \(4, 2, 2\)",
        ),
    ],
)
def test_levels_that_do_not_fit(context: BuildContext, fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(context, **fields)
