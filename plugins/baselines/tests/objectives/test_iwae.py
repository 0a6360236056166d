"""The importance-weighted bound on models with known answers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from numpy.testing import assert_allclose
from pydantic import ValidationError
from torch import Tensor, nn
from torch.distributions import Independent, MultivariateNormal, Normal
from torch.testing import assert_close
from uncollapse import LatentVariableModel
from uncollapse.config import BuildContext
from uncollapse.distributions import DiagonalNormal
from uncollapse.objectives import ELBO
from uncollapse.protocols import Batch, DataSpec, Progress
from uncollapse_baselines.iwae import IWAE, IWAEConfig
from uncollapse_kit import reference_model

X, D, NOISE = 4, 2, 0.6
CONTEXT = BuildContext(DataSpec((X,), "real"), latent_shape=(D,), steps_per_epoch=10)


class Linear(nn.Module):
    """``p(x|z) = N(Wz + b, sigma^2)``."""

    def __init__(self, weight: Tensor, bias: Tensor | float, sigma: float) -> None:
        super().__init__()
        self.weight, self.bias, self.sigma = nn.Parameter(weight), bias, sigma

    def forward(self, z: Tensor) -> Any:
        return Independent(Normal(z @ self.weight.T + self.bias, self.sigma), 1)


class Wide(nn.Module):
    """``q(z|x)``: the true posterior's mean, and a variance that is not the true one."""

    latent_shape = (D,)

    def __init__(self, decoder: Linear) -> None:
        super().__init__()
        w = decoder.weight.detach()
        covariance = torch.linalg.inv(torch.eye(D).double() + w.T @ w / NOISE**2)
        self.map = nn.Parameter(covariance @ w.T / NOISE**2)
        self.logvar = nn.Parameter(torch.full((D,), -1.0).double())

    def forward(self, x: Tensor, progress: Progress | None = None) -> DiagonalNormal:
        mean = x @ self.map.T
        return DiagonalNormal(mean, self.logvar.expand_as(mean))


class Standard(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self) -> DiagonalNormal:
        return DiagonalNormal(torch.zeros(self.size).double(), torch.zeros(self.size).double())


def linear_model() -> tuple[LatentVariableModel, Tensor]:
    torch.manual_seed(0)
    decoder = Linear(torch.randn(X, D, dtype=torch.float64), 0.0, NOISE)
    return LatentVariableModel(nn.Identity(), Wide(decoder), Standard(D), decoder), torch.randn(5, X).double()


def evidence(model: LatentVariableModel, x: Tensor) -> Tensor:
    w = model.decoder.weight.detach()
    return MultivariateNormal(torch.zeros(X).double(), w @ w.T + NOISE**2 * torch.eye(X).double()).log_prob(x)


@pytest.mark.parametrize("name", ["orthogonal_exact_posterior", "general_diag_q", "big_orthogonal"])
def test_agrees_with_the_released_importance_weighting(oracle: Any, name: str) -> None:
    numbers = oracle("iw_linear_gaussian")
    case = {k: torch.as_tensor(v) for k, v in numbers["inputs"][name].items()}
    z = case["z_samples"].movedim(1, 0)

    class Given(DiagonalNormal):
        def rsample(self, sample_shape: Any = ()) -> Tensor:
            return z

    class GivenPosterior(nn.Module):
        latent_shape = (z.shape[-1],)

        def forward(self, h: Tensor, progress: Progress | None = None) -> DiagonalNormal:
            return Given(case["q_mean"], case["q_logvar"])

    decoder = Linear(case["W"], case["b"], float(case["sigma"]))
    model = LatentVariableModel(nn.Identity(), GivenPosterior(), Standard(z.shape[-1]), decoder)
    loss = IWAE(samples=len(z))(model, Batch(case["x"]), Progress())
    expected = numbers["expected"][name]
    found = loss.terms["iwae"].detach()
    assert_allclose(-found, expected["iw_nll_from_given_samples"], rtol=numbers["rtol"], atol=1e-10)
    elbo = loss.terms["elbo"].detach()
    assert_allclose(elbo, expected["log_weights_mean_over_samples"], rtol=numbers["rtol"], atol=1e-10)
    assert_allclose(loss.total.detach(), -found.mean(), rtol=1e-12)


def test_one_draw_gives_the_elbo_and_its_gradient() -> None:
    model, batch = reference_model(CONTEXT), Batch(torch.randn(6, X))
    found = []
    for objective in (IWAE(samples=1), ELBO(rate="monte_carlo")):
        torch.manual_seed(3)
        loss = objective(model, batch, Progress())
        found.append((loss, torch.autograd.grad(loss.total, list(model.parameters()), allow_unused=True)))
    (ours, gradients), (elbo, expected) = found
    assert_close(ours.total, elbo.total)
    assert_close(ours.terms["iwae"], elbo.terms["elbo"])
    for name in ("elbo", "rate", "distortion"):
        assert_close(ours.terms[name], elbo.terms[name])
    for g, e in zip(gradients, expected, strict=True):
        assert (g is None) == (e is None)
        if g is not None:
            assert_close(g, e)


def test_terms_are_those_of_the_draws() -> None:
    model = reference_model(CONTEXT)
    loss = IWAE(samples=7)(model, Batch(torch.randn(6, X)), Progress())
    terms, inference = loss.terms, loss.inference
    assert {k: v.shape for k, v in terms.items()} == dict.fromkeys(("iwae", "elbo", "distortion", "rate"), (6,))
    assert inference.z.shape == (7, 6, D)
    assert_close(terms["elbo"], -(terms["distortion"] + terms["rate"]))
    weights = (inference.log_p_x + inference.log_p_z - inference.log_q).exp()
    assert_close(terms["iwae"], weights.mean(0).log())
    assert bool((terms["iwae"] > terms["elbo"]).all())
    assert_close(loss.total, -terms["iwae"].mean())


def test_bound_tightens_with_the_number_of_draws() -> None:
    model, x = linear_model()
    truth = evidence(model, x).mean()
    copies = x.repeat(4000, 1)
    bounds = []
    for samples in (1, 2, 5, 20, 100):
        torch.manual_seed(samples)
        with torch.no_grad():
            bounds.append(float(-IWAE(samples)(model, Batch(copies), Progress()).total))
    assert bounds == sorted(bounds)
    assert bounds[-1] - bounds[0] > 0.2
    # Not above the evidence but for the noise of the mean, and close to it.
    assert bounds[-1] == pytest.approx(float(truth), abs=0.03)
    assert bounds[0] < float(truth) - 0.2


def test_gradient_weights_draws_by_their_share() -> None:
    """Burda et al. (2016), eq. 13: the gradient is that of ``sum_k w~_k log w_k`` with the shares held fixed."""
    model, x = linear_model()
    torch.manual_seed(1)
    loss = IWAE(samples=9)(model, Batch(x), Progress())
    parameters = list(model.parameters())
    found = torch.autograd.grad(loss.total, parameters, retain_graph=True)
    inference = loss.inference
    log_w = inference.log_p_x + inference.log_p_z - inference.log_q
    shares = log_w.detach().exp() / log_w.detach().exp().sum(0)
    expected = torch.autograd.grad(-(shares * log_w).sum(0).mean(), parameters)
    for f, e in zip(found, expected, strict=True):
        assert bool(f.any())
        assert_close(f, e, rtol=1e-10, atol=1e-12)


def test_far_off_draws_do_not_underflow() -> None:
    model, x = linear_model()
    loss = IWAE(samples=5)(model, Batch(1e3 * x), Progress())
    loss.total.backward()
    assert bool(torch.isfinite(loss.total))
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)


def test_config() -> None:
    assert IWAEConfig().build(CONTEXT).samples == 5
    assert IWAEConfig(samples=50).build(CONTEXT).samples == 50
    for fields in ({"samples": 0}, {"rate": "analytic"}):
        with pytest.raises(ValidationError):
            IWAEConfig.model_validate(fields)
