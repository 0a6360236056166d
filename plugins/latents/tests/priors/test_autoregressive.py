import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from pydantic import ValidationError
from torch import nn
from torch.autograd.functional import jacobian
from torch.distributions import Normal
from uncollapse.capabilities import supports
from uncollapse.config import BuildContext
from uncollapse.decoders import MLPDecoder
from uncollapse.distributions import analytic_kl, standard_normal
from uncollapse.encoders import MLPEncoder
from uncollapse.likelihoods import BernoulliLikelihood
from uncollapse.model import LatentVariableModel
from uncollapse.plugins import registry
from uncollapse.posteriors import GaussianPosterior
from uncollapse.protocols import DataInitialized, DataSpec
from uncollapse_latents.flows import NormalizingFlow
from uncollapse_latents.priors import AutoregressivePrior

ORACLE_CASES = ["d4_h8_1block", "d5_h10_2blocks_2hid", "d2_h6"]


def config(**fields):
    return registry().find("prior", "autoregressive").model_validate({"type": "autoregressive", **fields})


def randomized(latent_shape, noise=0.2, **fields):
    prior = AutoregressivePrior(latent_shape, **fields).double()
    with torch.no_grad():
        for p in prior.parameters():
            p.add_(noise * torch.randn_like(p))
    return prior


def released(case):
    """Return the prior with the parameters of the released code's run."""
    hidden_layers = int(case["num_hidden_layers"])
    prior = AutoregressivePrior(
        (int(case["D"]),), int(case["num_blocks"]), int(case["hidden"]), hidden_layers
    ).double()  # fmt: skip
    names = ["input_layer", *(f"hidden_layers.{i}" for i in range(hidden_layers - 1)), "output_layer", "direct_connect"]
    for i, flow in enumerate(prior.transform.transforms):
        direction = "fwd" if i % 2 else "bwd"
        for made, theirs in ((flow.mean, "mu"), (flow.logvar, "logvar")):
            for layer, name in zip([*made.layers, made.skip], names, strict=True):
                numbers = case["layers"][f"blocks.{i // 2}.{direction}.{theirs}.{name}"]
                weight = layer.parametrizations.weight
                with torch.no_grad():
                    weight.original0.copy_(torch.from_numpy(numbers["weight_g_log"]))
                    weight.original1.copy_(torch.from_numpy(numbers["weight_v"]))
                    layer.bias.copy_(torch.from_numpy(numbers["bias"]))
                assert_allclose(
                    (layer.mask * layer.weight).detach(), numbers["effective_weight"], rtol=1e-8, atol=1e-10
                )
    return prior


@pytest.mark.parametrize("name", ORACLE_CASES)
def test_agrees_with_the_released_code(oracle, name):
    reference = oracle("mae_af_prior")
    case, expected = reference["inputs"][name], reference["expected"][name]
    tolerance = {"rtol": reference["rtol"], "atol": 1e-10}
    p = released(case)()
    z = torch.from_numpy(case["y"])
    eps, ladj = p.transform.call_and_ladj(z)
    assert_allclose(eps.detach(), expected["x"], **tolerance)
    assert_allclose(ladj.detach(), expected["logdet"], **tolerance)
    assert_allclose(p.log_prob(z).detach(), expected["log_prob"], **tolerance)
    # The released inverse adds 1e-12 to the scale, hence the wider tolerance against its round trip.
    assert_allclose(p.transform.inv(eps).detach(), expected["roundtrip_y"], rtol=1e-8, atol=1e-9)
    numeric = [torch.linalg.slogdet(jacobian(p.transform, one)).logabsdet for one in z]
    assert_allclose(torch.stack(numeric), expected["numeric_logdet_from_jacobian"], **tolerance)


def test_density_of_the_released_model_integrates_to_one(oracle):
    p = released(oracle("mae_af_prior")["inputs"]["d2_h6"])()
    step = 0.1
    line = torch.arange(-30, 30, step, dtype=torch.float64)
    with torch.no_grad():
        total = p.log_prob(torch.cartesian_prod(line, line)).exp().sum() * step**2
    assert total.item() == pytest.approx(1.0, abs=1e-6)


def test_density_integrates_to_one_and_is_that_of_the_samples():
    p = randomized((2,), blocks=1, hidden=8)()
    step = 0.05
    line = torch.arange(-25, 25, step, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    with torch.no_grad():
        mass = p.log_prob(grid).exp() * step**2
        assert mass.sum().item() == pytest.approx(1.0, abs=1e-4)
        mean = (mass[:, None] * grid).sum(0)
        std = ((mass[:, None] * (grid - mean) ** 2).sum(0)).sqrt()
        z = p.sample((20_000,))
    assert_allclose(z.mean(0), mean, atol=5 * std.max().item() / np.sqrt(20_000))
    assert_allclose(z.std(0), std, rtol=0.05)


@pytest.mark.parametrize("latent_shape", [(1,), (4,), (2, 3, 2)])
@pytest.mark.parametrize("weight_norm", [True, False])
def test_is_a_distribution_over_the_latents(latent_shape, weight_norm):
    # The log-variance is unbounded: large random weights make samples of many features overflow, as they should.
    prior = randomized(latent_shape, noise=0.05, blocks=1, hidden=10, weight_norm=weight_norm)
    p = prior()
    assert isinstance(p, NormalizingFlow)
    assert p.batch_shape == ()
    assert p.event_shape == latent_shape
    z, log_p = p.rsample_and_log_prob((3, 2))
    assert z.shape == (3, 2, *latent_shape)
    assert log_p.shape == (3, 2)
    torch.testing.assert_close(p.log_prob(z), log_p)
    assert not p.sample((2,)).requires_grad
    eps = torch.randn(5, z[0, 0].numel(), dtype=torch.float64)
    torch.testing.assert_close(p.transform(p.transform.inv(eps)), eps)


def test_spatial_latents_are_flattened_row_by_row():
    spatial = randomized((2, 2, 3), blocks=1, hidden=9)
    flat = AutoregressivePrior((12,), blocks=1, hidden=9).double()
    state = {k.replace("transforms.1.", "transforms.0.").replace("transforms.2.", "transforms.1."): v
             for k, v in spatial.state_dict().items()}  # fmt: skip
    flat.load_state_dict(state)
    z = torch.randn(4, 2, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(spatial().log_prob(z), flat().log_prob(z.flatten(1)))


@pytest.mark.parametrize("weight_norm", [True, False])
@pytest.mark.parametrize("use", ["density", "sample"])
def test_gradients_reach_everything(use, weight_norm):
    prior = AutoregressivePrior((3,), blocks=2, weight_norm=weight_norm)
    p = prior()
    value = p.log_prob(torch.randn(20, 3)) if use == "density" else p.rsample((20,)).square()
    value.sum().backward()
    for name, q in prior.named_parameters():
        assert q.grad is not None, name
        assert q.grad.isfinite().all(), name
        assert q.grad.abs().sum() > 0, name


def test_initialize_starts_near_the_standard_normal():
    prior = AutoregressivePrior((6,), blocks=2)
    assert supports(prior, DataInitialized)
    prior.initialize(torch.zeros(3, 1, 8, 8))
    outputs = []
    for layer in prior.modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_hook(lambda _m, _i, out: outputs.append(out.detach()))
    z = torch.randn(20_000, 6)
    p = prior()
    difference = (p.log_prob(z) - standard_normal((6,)).log_prob(z)).detach()
    # KL(N(0, I) || p): 4 flows of 6 features, each moving mean and log-variance by about 0.1 * sqrt(2), cost 0.01 nats.
    assert 0.05 < -difference.mean() < 0.5
    assert len(outputs) == 4 * 2 * 3
    for out in outputs:
        live = out.std(0) > 0
        assert live.sum() >= out.shape[1] - 1
        # On fresh draws, so up to the error of 500.
        assert_allclose(out.std(0)[live], 0.1, rtol=0.25)
        assert_allclose(out.mean(0), 0, atol=0.03)


def test_unnormalized_flow_needs_no_initialization():
    prior = AutoregressivePrior((3,), weight_norm=False)
    before = {k: v.clone() for k, v in prior.state_dict().items()}
    prior.initialize(torch.zeros(3, 1, 8, 8))
    assert all(torch.equal(v, before[k]) for k, v in prior.state_dict().items())


def test_model_takes_the_monte_carlo_rate_and_learns_the_aggregate():
    torch.manual_seed(3)
    model = LatentVariableModel(
        MLPEncoder((1, 4, 4), (16,)),
        GaussianPosterior((16,), (2,)),
        AutoregressivePrior((2,), blocks=1, hidden=16),
        MLPDecoder((2,), (1, 4, 4), BernoulliLikelihood((1, 4, 4)), (16,)),
    )
    x = torch.bernoulli(torch.rand(32, 1, 4, 4))
    model.initialize(x)
    inference = model(x, samples=3)
    assert analytic_kl(inference.q, inference.p_z) is None
    torch.testing.assert_close(inference.rate(), (inference.log_q - inference.log_p_z).mean(0))
    (inference.rate() + inference.distortion).mean().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_fits_a_distribution_that_the_standard_normal_cannot():
    prior = AutoregressivePrior((2,), blocks=1, hidden=16)
    prior.initialize(torch.zeros(1))
    first = torch.randn(500, 1)
    z = torch.cat([3 + 0.5 * first, first.square() + 0.1 * torch.randn(500, 1)], 1)
    optimizer = torch.optim.Adam(prior.parameters(), 1e-2)
    for _ in range(250):
        loss = -prior().log_prob(z).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    independent = -Normal(z.mean(0), z.std(0)).log_prob(z).sum(1).mean()
    assert loss.item() < independent.item() - 0.5


def test_config_builds_and_round_trips(tmp_path):
    built = config(blocks=1, hidden=7, hidden_layers=2)
    assert type(built).model_validate_json(built.model_dump_json()) == built
    context = BuildContext(DataSpec((1, 8, 8), "binary"), (3,))
    one, two = built.build(context), built.build(context)
    torch.save(one.state_dict(), tmp_path / "state.pt")
    two.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    z = torch.randn(4, 3)
    assert torch.equal(one().log_prob(z), two().log_prob(z))
    assert torch.equal(one().log_prob(z), one.eval()().log_prob(z))
    assert one.transform.transforms[0].mean.layers[0].weight.shape == (7, 3)
    default = config().build(context)
    assert len(default.transform.transforms) == 4
    assert default.transform.transforms[0].mean.layers[0].weight.shape == (30, 3)


@pytest.mark.parametrize("fields", [{"blocks": 0}, {"hidden": 0}, {"hidden_layers": 0}, {"depth": 2}])
def test_wrong_fields_are_refused(fields):
    with pytest.raises(ValidationError):
        config(**fields)
