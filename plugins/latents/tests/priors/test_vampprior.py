import copy
import math
import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from pydantic import ValidationError
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from torch.testing import assert_close
from uncollapse import Pipeline
from uncollapse.capabilities import supports
from uncollapse.config import BuildContext
from uncollapse.decoders import MLPDecoder
from uncollapse.distributions import DiagonalNormal
from uncollapse.encoders import MLPEncoder
from uncollapse.errors import ConfigError, ShapeError
from uncollapse.likelihoods import BernoulliLikelihood
from uncollapse.model import LatentVariableModel
from uncollapse.objectives import ELBO
from uncollapse.plugins import registry
from uncollapse.posteriors import GaussianPosterior
from uncollapse.protocols import Batch, Bindable, DataInitialized, DataSpec, Progress
from uncollapse.training import Run, Trainer
from uncollapse_latents.priors import VampPrior

X, D, K = (1, 4, 4), 3, 6


def vamp_model(components=K, **fields):
    prior = VampPrior(X, components, **fields)
    posterior = GaussianPosterior((8,), (D,))
    return LatentVariableModel(MLPEncoder(X, (8,)), posterior, prior, MLPDecoder((D,), X, BernoulliLikelihood(X), (8,)))


def pixels(count, seed=0):
    return (torch.rand(count, *X, generator=torch.Generator().manual_seed(seed)) > 0.5).float()


# ------------------------------------------------------------------------------------------------------------- density


@pytest.mark.parametrize("name", ["small", "big"])
def test_agrees_with_the_released_code(oracle, name):
    numbers = oracle("vampprior_log_prob")
    case, expected, rtol = numbers["inputs"][name], numbers["expected"][name], numbers["rtol"]
    mean, logvar = (torch.from_numpy(case[k]) for k in ("component_mean", "component_logvar"))
    prior = VampPrior((2,), len(mean)).double()
    # What the network answers for pseudo-inputs is given.
    prior.bind(lambda u: DiagonalNormal(mean, logvar))
    z = torch.from_numpy(case["z"]).requires_grad_()
    log_prob = prior().log_prob(z)
    assert_allclose(log_prob.detach(), expected["normalised_log_p_z"], rtol=rtol, atol=1e-10)
    # The released code leaves out the constant.
    constant = 0.5 * z.shape[1] * math.log(2 * math.pi)
    assert_allclose(log_prob.detach() + constant, expected["code_log_p_z (no 2pi constants)"], rtol=rtol, atol=1e-10)
    (gradient,) = torch.autograd.grad(log_prob.sum(), [z])
    assert_allclose(gradient, np.asarray(expected["grad_z"]), rtol=rtol, atol=1e-10)


def test_density_is_the_mixture_of_posteriors_at_pseudo_inputs():
    model = vamp_model()
    z = torch.randn(5, 7, D)
    q = model.infer(model.prior.pseudo_inputs.clamp(0, 1))
    torchs = MixtureSameFamily(Categorical(logits=torch.zeros(K)), Independent(Normal(q.mean, q.stddev), 1))
    assert_close(model.p_z().log_prob(z), torchs.log_prob(z))


def test_pseudo_inputs_are_limited_on_use():
    model = vamp_model()
    with torch.no_grad():
        model.prior.pseudo_inputs.uniform_(-1, 2)
    inputs = model.prior.inputs()
    assert float(inputs.detach().min()) == 0
    assert float(inputs.detach().max()) == 1
    (gradient,) = torch.autograd.grad(model.p_z().log_prob(torch.zeros(D)), [model.prior.pseudo_inputs])
    u = model.prior.pseudo_inputs.detach()
    outside = (u < 0) | (u > 1)
    assert bool(outside.any())
    assert not bool(gradient[outside].any())
    assert bool(gradient[~outside].all())
    free = VampPrior(X, K, limits=None)
    assert free.inputs() is free.pseudo_inputs


def test_density_moves_pseudo_inputs_encoder_and_posterior():
    model = vamp_model()
    model.p_z().log_prob(torch.randn(4, D)).sum().backward()
    for part in (model.prior, model.encoder, model.posterior):
        assert all(p.grad is not None and bool(p.grad.any()) for p in part.parameters())


def test_samples_draw_their_component():
    """The released code takes the first pseudo-inputs in order: a few samples would never see the last."""
    prior = VampPrior((2,), 50)
    centres = 100 * torch.arange(50.0)[:, None].expand(50, 2)
    prior.bind(lambda u: DiagonalNormal(centres, torch.zeros(50, 2)))
    torch.manual_seed(0)
    few = (prior().sample((20,))[:, 0] / 100).round().long()
    assert few.tolist() != list(range(20))
    assert int(few.max()) > 20
    many = (prior().sample((50_000,))[:, 0] / 100).round().long()
    assert_close(torch.bincount(many, minlength=50) / 50_000, torch.full((50,), 0.02), rtol=0, atol=0.004)


# -------------------------------------------------------------------------------------------------------------- wiring


def test_without_a_model_the_error_names_the_place():
    with pytest.raises(ConfigError, match=r"model\.prior: 'vampprior' .* wire it into a LatentVariableModel"):
        VampPrior(X, K)()


def test_it_speaks_the_optional_protocols():
    assert supports(VampPrior(X, K), Bindable)
    assert supports(VampPrior(X, K), DataInitialized)


def test_the_network_is_not_the_prior_s():
    model = vamp_model()
    assert list(model.prior.state_dict()) == ["pseudo_inputs"]
    assert [n for n, _ in model.prior.named_modules()] == [""]
    assert [n for n in model.state_dict() if n.startswith("prior")] == ["prior.pseudo_inputs"]
    # Not even where a bare module is bound by hand.
    prior = VampPrior((4,), K)
    prior.bind(nn.Linear(4, 2))
    assert list(prior.state_dict()) == ["pseudo_inputs"]


@pytest.mark.parametrize("way", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_a_copy_of_the_model_uses_its_own_network(way):
    model = vamp_model()
    other = way(model)
    z = torch.randn(4, D)
    before = model.p_z().log_prob(z)
    assert_close(other.p_z().log_prob(z), before)
    with torch.no_grad():
        for p in other.posterior.parameters():
            p.add_(1.0)
    assert bool((other.p_z().log_prob(z) != before).all())
    assert_close(model.p_z().log_prob(z), before, rtol=0, atol=0)
    with torch.no_grad():
        for p in model.encoder.parameters():
            p.zero_()
    changed = other.p_z().log_prob(z)
    assert bool((changed != model.p_z().log_prob(z)).all())
    other.p_z().log_prob(z).sum().backward()
    assert all(p.grad is None for p in model.parameters())


def test_a_checkpoint_brings_the_density_back():
    model, other = vamp_model(), vamp_model()
    z = torch.randn(4, D)
    assert not torch.allclose(other.p_z().log_prob(z), model.p_z().log_prob(z))
    other.load_state_dict(model.state_dict())
    assert_close(other.p_z().log_prob(z), model.p_z().log_prob(z))


def test_the_rate_is_monte_carlo():
    model = vamp_model()
    inference = model(pixels(5), samples=4)
    assert_close(inference.rate(), (inference.log_q - inference.log_p_z).mean(0))
    with pytest.raises(ConfigError, match="has no known closed form"):
        inference.rate("analytic")


def test_rate_vanishes_where_every_pseudo_input_has_the_one_posterior():
    model = vamp_model()
    with torch.no_grad():
        model.posterior.head.weight.zero_()
    inference = model(pixels(5), samples=2)
    assert_close(inference.rate(), torch.zeros(5), rtol=0, atol=1e-5)


def test_training_lowers_the_loss_and_moves_pseudo_inputs():
    torch.manual_seed(0)
    # Four patterns: log 4 nats can be told from a latent, 16 log 2 - log 4 can be saved.
    model, batch = vamp_model(), Batch(pixels(4).repeat(8, 1, 1, 1))
    model.initialize(batch.x)
    start = model.prior.pseudo_inputs.detach().clone()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for step in range(150):
        optimizer.zero_grad()
        loss = ELBO()(model, batch, Progress(step)).total
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 10
    assert sum(losses[-10:]) / 10 < 4
    assert not torch.equal(model.prior.pseudo_inputs, start)


# ------------------------------------------------------------------------------------------------------ initialization


def test_starts_at_the_first_examples_and_noise():
    torch.manual_seed(0)
    model, x = vamp_model(components=400), pixels(600)
    model.initialize(x)
    noise = model.prior.pseudo_inputs.detach() - x[:400]
    assert_close(noise.mean(), torch.tensor(0.0), rtol=0, atol=1e-3)
    assert_close(noise.std(), torch.tensor(0.01), rtol=0.03, atol=0)


def test_too_few_examples_leave_the_others_at_their_draws():
    torch.manual_seed(0)
    model, x = vamp_model(components=400), pixels(100)
    before = model.prior.pseudo_inputs.detach().clone()
    model.initialize(x)
    after = model.prior.pseudo_inputs.detach()
    assert float((after[:100] - x).abs().max()) < 0.06
    assert_close(after[100:], before[100:], rtol=0, atol=0)
    assert_close(after[100:].mean(), torch.tensor(0.05), rtol=0, atol=1e-3)
    assert_close(after[100:].std(), torch.tensor(0.01), rtol=0.03, atol=0)


def test_a_run_starts_it_at_the_first_grey_examples(tmp_path):
    """As many as it wants, in the stored order and before binary values are drawn, whatever initialize_examples says."""
    grey = torch.rand(40, *X)
    np.savez(tmp_path / "x.npz", x=grey.numpy(), x_validation=grey[:5].numpy(), x_test=grey[:5].numpy())
    pipeline = Pipeline.from_dict(
        {
            "name": "vamp",
            "data": {
                "type": "arrays",
                "path": str(tmp_path / "x.npz"),
                "support": "unit_interval",
                "binarize": "dynamic",
                "batch_size": 8,
            },
            "model": {
                "encoder": "mlp",
                "posterior": {"type": "gaussian", "latent_dim": 2},
                "prior": {"type": "vampprior", "components": 30, "std": 0.0},
                "decoder": "mlp",
            },
            "training": {"epochs": 1, "device": "cpu", "initialize_examples": 4},
        }
    )
    built = pipeline.build()
    trainer = Trainer(pipeline.config, built, Run(tmp_path / "run"), quiet=True)
    trainer.prepare()
    trainer.close()
    assert_close(built.model.prior.pseudo_inputs.detach(), grey[:30])


def test_how_many_stored_examples_it_wants():
    assert VampPrior(X, K).stored_examples == K
    assert VampPrior(X, K, from_data=False).stored_examples == 0


def test_data_may_be_left_out():
    model = vamp_model(from_data=False, mean=0.3)
    before = model.prior.pseudo_inputs.detach().clone()
    model.initialize(pixels(10))
    assert_close(model.prior.pseudo_inputs.detach(), before, rtol=0, atol=0)
    assert_close(before.mean(), torch.tensor(0.3), rtol=0, atol=0.01)


def test_data_of_another_shape_are_refused():
    with pytest.raises(ShapeError, match=r"model\.prior: pseudo-inputs have shape \(1, 4, 4\), .* shape \(16,\)"):
        VampPrior(X, K).initialize(torch.zeros(5, 16))


# -------------------------------------------------------------------------------------------------------------- config


def config(**fields):
    return registry().find("prior", "vampprior").model_validate({"type": "vampprior", **fields})


def context(support):
    return BuildContext(DataSpec(X, support, vocabulary_size=5), latent_shape=(D,))


def test_config_builds_what_it_says():
    prior = config(components=7, from_data=False, mean=0.2, std=0.0).build(context("binary"))
    assert prior.pseudo_inputs.shape == (7, *X)
    assert_close(prior.pseudo_inputs.detach(), torch.full((7, *X), 0.2))
    assert (prior.from_data, prior.limits) == (False, (0.0, 1.0))
    assert config().components == 500


@pytest.mark.parametrize(("support", "limits"), [("unit_interval", (0, 1)), ("bytes", (0, 1)), ("real", None)])
def test_limits_follow_the_data(support, limits):
    assert config(components=2).build(context(support)).limits == limits


def test_tokens_are_refused():
    with pytest.raises(ConfigError, match=r"model\.prior: 'vampprior' .* the data are tokens"):
        config().build(context("tokens"))


@pytest.mark.parametrize("fields", [{"components": 0}, {"std": -1}, {"pseudo_inputs": 3}])
def test_config_refuses(fields):
    with pytest.raises(ValidationError):
        config(**fields)
