"""The autoregressive prior over maps: an exact density, samples that follow it, and what it sees."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from pydantic import ValidationError
from torch import nn
from torch.autograd.functional import jacobian
from uncollapse.capabilities import supports
from uncollapse.config import BuildContext
from uncollapse.decoders import MLPDecoder
from uncollapse.distributions import DiagonalNormal, analytic_kl, standard_normal
from uncollapse.encoders import ConvEncoder
from uncollapse.errors import ConfigError, ShapeError
from uncollapse.likelihoods import BernoulliLikelihood
from uncollapse.model import LatentVariableModel
from uncollapse.objectives import ELBO
from uncollapse.objectives.free_bits import FreeBits
from uncollapse.plugins import registry
from uncollapse.posteriors import GaussianPosterior
from uncollapse.protocols import Batch, DataInitialized, DataSpec, Progress
from uncollapse_latents.flows import AutoregressiveConvAffine, NormalizingFlow
from uncollapse_latents.flows.masked_conv import MaskedConvNet
from uncollapse_latents.priors import AutoregressiveConvPrior


def config(**fields):
    return registry().find("prior", "autoregressive_conv").model_validate({"type": "autoregressive_conv", **fields})


def randomized(latent_shape, noise=0.2, **fields):
    prior = AutoregressiveConvPrior(latent_shape, **{"blocks": 1, "hidden": 6, **fields}).double()
    with torch.no_grad():
        for p in prior.parameters():
            p.add_(noise * torch.randn_like(p))
    return prior


def seen(transform, shape):
    """Jacobian of ``z -> eps``, ``[C, H, W, C, H, W]``."""
    return jacobian(transform, torch.randn(*shape).double())


@pytest.mark.parametrize("reverse", [False, True])
def test_a_position_sees_all_channels_of_the_positions_before_it(reverse):
    flow = AutoregressiveConvAffine(2, 6, 3, 3, reverse).double()
    with torch.no_grad():
        for p in flow.parameters():
            p.add_(torch.randn_like(p))
    jacobian_of_maps = seen(flow(), (2, 3, 4))
    for row, column, r, c in np.ndindex(3, 4, 3, 4):
        part = jacobian_of_maps[:, row, column, :, r, c]
        up, right = (r - row, column - c) if reverse else (row - r, c - column)
        if (up, right) == (0, 0):
            assert torch.equal(part, part.diag().diag())  # channels of a position do not depend on each other
            assert (part.diag() > 0).all()
        # Masked kernels reach further to the right by going up only. Four of 3x3 cover the rest of these maps.
        elif (up == 0 and right < 0) or (up > 0 and right <= up):
            assert (part != 0).all(), (row, column, r, c)
        else:
            assert (part == 0).all(), (row, column, r, c)


@pytest.mark.parametrize("fields", [{"blocks": 2}, {"kernel_size": 5, "hidden_layers": 1}])
def test_determinant_is_that_of_the_jacobian(fields):
    shape = (2, 3, 2)
    p = randomized(shape, **fields)()
    z = torch.randn(4, *shape).double()
    eps, ladj = p.transform.call_and_ladj(z)
    numeric = [torch.linalg.slogdet(seen_at(p.transform, one)).logabsdet for one in z]
    torch.testing.assert_close(ladj, torch.stack(numeric), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(p.log_prob(z), standard_normal(shape).log_prob(eps) + ladj)
    assert ladj.abs().min() > 0.01


def seen_at(transform, z):
    return jacobian(lambda v: transform(v.view_as(z)).flatten(), z.flatten())


@pytest.mark.parametrize("shape", [(1, 1, 2), (1, 2, 1), (2, 1, 1)])
def test_density_integrates_to_one_and_is_that_of_the_samples(shape):
    p = randomized(shape, noise=0.4)()
    step = 0.15
    line = torch.arange(-12, 12, step, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    with torch.no_grad():
        mass = p.log_prob(grid.view(-1, *shape)).exp() * step**2
        assert mass.sum().item() == pytest.approx(1.0, abs=1e-4)
        mean = (mass[:, None] * grid).sum(0)
        std = ((mass[:, None] * (grid - mean) ** 2).sum(0)).sqrt()
        z = p.sample((10_000,)).flatten(1)
    assert_allclose(z.mean(0), mean, atol=5 * std.max().item() / np.sqrt(10_000))
    assert_allclose(z.std(0), std, rtol=0.05)


@pytest.mark.parametrize("latent_shape", [(3, 4, 4), (1, 1, 5), (2, 5, 1), (4, 1, 1)])
def test_is_a_distribution_over_maps(latent_shape):
    # The log-variance is unbounded: large random weights make samples of many positions overflow, as they should.
    p = randomized(latent_shape, blocks=2, noise=0.1)()
    assert isinstance(p, NormalizingFlow)
    assert (p.batch_shape, p.event_shape) == ((), latent_shape)
    z, log_p = p.rsample_and_log_prob((3, 2))
    assert (z.shape, log_p.shape) == ((3, 2, *latent_shape), (3, 2))
    torch.testing.assert_close(p.log_prob(z), log_p)
    assert not p.sample((2,)).requires_grad
    assert p.sample().shape == latent_shape
    eps = torch.randn(5, *latent_shape).double()
    torch.testing.assert_close(p.transform(p.transform.inv(eps)), eps)
    torch.testing.assert_close(p.transform.inv(p.transform(eps)), eps)


@pytest.mark.parametrize("use", ["density", "sample"])
def test_gradients_reach_everything(use):
    prior = AutoregressiveConvPrior((2, 3, 3), blocks=1, hidden=4)
    p = prior()
    value = p.log_prob(torch.randn(20, 2, 3, 3)) if use == "density" else p.rsample((20,)).square()
    value.sum().backward()
    for name, q in prior.named_parameters():
        assert q.grad is not None, name
        assert q.grad.isfinite().all(), name
        assert q.grad.abs().sum() > 0, name


def test_gradient_of_a_sample_is_that_of_the_inverse_function():
    """The derivative of ``z`` by a parameter, from that of ``eps`` at fixed ``z``: implicit differentiation."""
    prior = randomized((2, 2, 2))
    transform = prior().transform
    eps = torch.randn(2, 2, 2).double()
    z = transform.inv(eps)
    target = torch.randn(8).double()
    parameters = list(prior.parameters())
    direct = torch.autograd.grad(target @ z.flatten(), parameters)
    fixed = z.detach()
    by_z = seen_at(transform, fixed)
    implicit = torch.autograd.grad(-torch.linalg.solve(by_z.T, target) @ transform(fixed).flatten(), parameters)
    for one, other in zip(direct, implicit, strict=True):
        torch.testing.assert_close(one, other)


def test_initialize_starts_near_the_standard_normal():
    prior = AutoregressiveConvPrior((3, 4, 4), blocks=2, hidden=8)
    assert supports(prior, DataInitialized)
    prior.initialize(torch.zeros(3, 1, 8, 8))
    outputs = []
    for layer in prior.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _m, _i, out: outputs.append(out.detach()))
    z = torch.randn(500, 3, 4, 4)
    difference = (prior().log_prob(z) - standard_normal((3, 4, 4)).log_prob(z)).detach()
    # KL(N(0, I) || p): 4 flows of 48 numbers, each moving mean and log-variance by about 0.14, cost 0.01 nats.
    assert 0.3 < -difference.mean() < 5
    assert len(outputs) == 4 * 2 * 5
    for out in outputs:
        # On fresh draws, so up to the error of 100 with 16 positions each.
        assert_allclose(out.std((0, 2, 3)), 0.1, rtol=0.25)
        assert_allclose(out.mean((0, 2, 3)), 0, atol=0.02)


def model():
    return LatentVariableModel(
        ConvEncoder((1, 8, 8), (4, 4), flatten=False, out_channels=4),
        GaussianPosterior((4, 2, 2), (2, 2, 2)),
        AutoregressiveConvPrior((2, 2, 2), blocks=1, hidden=4),
        MLPDecoder((2, 2, 2), (1, 8, 8), BernoulliLikelihood((1, 8, 8)), (8,)),
    )


def test_model_takes_the_monte_carlo_rate():
    built, x = model(), torch.bernoulli(torch.rand(32, 1, 8, 8))
    built.initialize(x)
    inference = built(x, samples=3)
    assert analytic_kl(inference.q, inference.p_z) is None
    torch.testing.assert_close(inference.rate(), (inference.log_q - inference.log_p_z).mean(0))
    (inference.rate() + inference.distortion).mean().backward()
    assert all(p.grad is not None for p in built.parameters())


def test_rates_of_single_dimensions_are_refused():
    built, batch = model(), Batch(torch.bernoulli(torch.rand(8, 1, 8, 8)))
    assert built(batch.x).rate_per_dimension() is None
    with pytest.raises(ConfigError, match="needs a rate of every dimension"):
        ELBO(free_bits=FreeBits(0.1, "batch_per_dimension"))(built, batch, Progress())
    loss = ELBO(free_bits=FreeBits(1000.0, "batch_total"))(built, batch, Progress())
    assert loss.total.item() == pytest.approx(loss.terms["distortion"].mean().item() + 1000)


def test_fits_maps_that_the_standard_normal_cannot():
    prior = AutoregressiveConvPrior((1, 3, 3), blocks=1, hidden=8, hidden_layers=1)
    prior.initialize(torch.zeros(1))
    # Each row is the one above, nearly; the first is bent: its last number follows the square of its first.
    row = torch.randn(400, 3)
    row[:, 2] = row[:, 0].square() + 0.1 * row[:, 2]
    z = torch.stack([row + 0.1 * k * torch.randn(400, 3) for k in range(3)], 1)[:, None]
    optimizer = torch.optim.Adam(prior.parameters(), 2e-2)
    for _ in range(40):
        loss = -prior().log_prob(z).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    independent = -DiagonalNormal(z.mean(0), z.var(0).log(), event_dim=3).log_prob(z).mean()
    assert loss.item() < independent.item() - 4


def test_paper_s_prior_is_the_default(tmp_path):
    context = BuildContext(DataSpec((3, 32, 32), "bytes"), (16, 8, 8))
    built = config()
    assert type(built).model_validate_json(built.model_dump_json()) == built
    flows = built.build(context).transform.transforms
    assert [flow.reverse for flow in flows] == 4 * [True, False]
    for net in (flows[0].mean, flows[7].logvar):
        assert [layer.out_channels for layer in (net.first, *net.hidden, net.last)] == [128, 128, 128, 16]
        assert net.first.kernel_size == (3, 3)
    small = config(blocks=1, hidden=4)
    one, two = (small.build(context) for _ in range(2))
    torch.save(one.state_dict(), tmp_path / "state.pt")
    two.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    z = torch.randn(2, 16, 8, 8)
    assert torch.equal(one().log_prob(z), two().log_prob(z))


def test_latents_that_are_no_maps_are_refused():
    with pytest.raises(ShapeError, match=r"model\.prior: .*maps \(C, H, W\), found latents of shape \(32,\)"):
        config().build(BuildContext(DataSpec((1, 8, 8), "binary"), (32,)))


@pytest.mark.parametrize(
    "fields", [{"blocks": 0}, {"hidden": 0}, {"hidden_layers": 0}, {"kernel_size": 4}, {"kernel_size": 1}, {"depth": 2}]
)
def test_wrong_fields_are_refused(fields):
    with pytest.raises(ValidationError):
        config(**fields)


def test_hidden_layers_are_rectified_as_released():
    """MADE2d of MAE's release has ReLU: with everything below zero, nothing but the skip is left."""
    net = MaskedConvNet(2, 6, hidden_layers=2).double()
    for layer in (net.first, *net.hidden):
        layer.bias.data.fill_(-1e6)
    x = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(net(x), net.skip(x) + net.last.bias.view(1, -1, 1, 1))
