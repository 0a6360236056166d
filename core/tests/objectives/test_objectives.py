"""The ELBO and the reconstruction objective on a model with known answers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.distributions import Independent, Laplace, MultivariateNormal, Normal
from torch.testing import assert_close
from uncollapse import LatentVariableModel
from uncollapse.config import BuildContext
from uncollapse.distributions import DiagonalNormal, kl_per_dimension
from uncollapse.errors import ConfigError
from uncollapse.objectives import ELBO, FreeBits, free_bits
from uncollapse.objectives.elbo import ELBOConfig, ReconstructionConfig
from uncollapse.protocols import Batch, DataSpec, Progress
from uncollapse.schedules import LinearSchedule
from uncollapse_kit import reference_model

X, D, NOISE = 4, 2, 0.6
CONTEXT = BuildContext(DataSpec((X,), "real"), latent_shape=(D,), steps_per_epoch=10)


class Linear(nn.Module):
    """Decoder of a linear Gaussian model, ``p(x|z) = N(Wz, NOISE^2)``: every quantity is known exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(X, D, dtype=torch.float64))

    def forward(self, z: Tensor) -> Any:
        return Independent(Normal(z @ self.weight.T, NOISE), 1)


class ExactPosterior(nn.Module):
    """``q(z|x)``: the true posterior's mean, its variances without the correlations, times ``widen``."""

    latent_shape = (D,)

    def __init__(self, decoder: Linear, widen: float = 1.0) -> None:
        super().__init__()
        w = decoder.weight.detach()
        self.covariance = torch.linalg.inv(torch.eye(D).double() + w.T @ w / NOISE**2)
        self.map = self.covariance @ w.T / NOISE**2
        self.widen = widen

    def forward(self, x: Tensor, progress: Progress | None = None) -> DiagonalNormal:
        mean = x @ self.map.T
        variance = self.widen / torch.diagonal(torch.linalg.inv(self.covariance))
        return DiagonalNormal(mean, variance.log().expand_as(mean))


class Standard(nn.Module):
    def forward(self) -> DiagonalNormal:
        return DiagonalNormal(torch.zeros(D).double(), torch.zeros(D).double())


def linear_model() -> tuple[LatentVariableModel, Tensor]:
    decoder = Linear()
    model = LatentVariableModel(nn.Identity(), ExactPosterior(decoder), Standard(), decoder)
    return model, torch.randn(5, X, dtype=torch.float64)


def exact_elbo(model: LatentVariableModel, x: Tensor) -> Tensor:
    """Return the ELBO of the linear model in closed form, ``[B]``."""
    q, w = model.infer(x), model.decoder.weight.detach()
    residual = (x - q.mean @ w.T).square().sum(1) + (q.variance @ w.square().T).sum(1)
    distortion = 0.5 * residual / NOISE**2 + X * math.log(NOISE * math.sqrt(2 * math.pi))
    rate = 0.5 * (q.variance + q.mean.square() - 1 - q.logvar).sum(1)
    return -(distortion + rate)


def test_elbo_of_a_linear_gaussian_model_in_closed_form() -> None:
    model, x = linear_model()
    loss = ELBO(samples=40_000)(model, Batch(x), Progress())
    assert_close(loss.terms["elbo"].detach(), exact_elbo(model, x), rtol=0, atol=0.05)
    assert_close(loss.total, -loss.terms["elbo"].mean())


def test_elbo_is_a_bound_and_its_gap_is_the_divergence_from_the_true_posterior() -> None:
    model, x = linear_model()
    w = model.decoder.weight.detach()
    evidence = MultivariateNormal(torch.zeros(X).double(), w @ w.T + NOISE**2 * torch.eye(X).double()).log_prob(x)
    q = model.infer(x)
    true = MultivariateNormal(q.mean, model.posterior.covariance)
    full = MultivariateNormal(q.mean, torch.diag_embed(q.variance))
    gap = torch.distributions.kl_divergence(full, true)
    assert bool((gap > 0).all())
    assert_close(exact_elbo(model, x) + gap, evidence)


@pytest.mark.parametrize("rate", ["auto", "analytic", "monte_carlo"])
@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
def test_total_is_distortion_plus_weighted_rate(weight: float, rate: Any) -> None:
    model = reference_model(CONTEXT)
    loss = ELBO(weight, rate=rate, samples=3)(model, Batch(torch.randn(6, X)), Progress())
    terms = loss.terms
    assert {k: v.shape for k, v in terms.items()} == dict.fromkeys(("elbo", "distortion", "rate"), (6,))
    assert_close(loss.total, (terms["distortion"] + weight * terms["rate"]).mean())
    # The elbo that is reported is the bound itself, whatever the weight.
    assert_close(terms["elbo"], -(terms["distortion"] + terms["rate"]))
    assert_close(terms["rate"], loss.inference.rate(rate))
    assert loss.weights == {"rate_weight": weight}


def test_scheduled_weight_is_that_of_the_step_and_final_at_the_end() -> None:
    model, batch = reference_model(CONTEXT), Batch(torch.randn(6, X))
    objective = ELBO(LinearSchedule(until_epoch=2))
    for progress, expected in (
        (Progress(0, 10), 1 / 20),
        (Progress(9, 10), 0.5),
        (Progress(30, 10), 1.0),
        (Progress(0, 10, final=True), 1.0),
    ):
        loss = objective(model, batch, progress)
        assert loss.weights["rate_weight"] == pytest.approx(expected)
        assert_close(loss.total, (loss.terms["distortion"] + expected * loss.terms["rate"]).mean())


@pytest.mark.parametrize("variant", ["batch_total", "example_total", "batch_per_dimension", "example_per_dimension"])
def test_floor_stands_under_the_rate_before_weighting(variant: Any) -> None:
    model, batch, nats = reference_model(CONTEXT), Batch(torch.randn(6, X)), 0.7
    loss = ELBO(0.5, FreeBits(nats, variant))(model, batch, Progress())
    q, p = loss.inference.q, loss.inference.p_z
    rates = kl_per_dimension(q, p)  # type: ignore[arg-type]
    floored = free_bits(rates.sum(1) if variant.endswith("total") else rates, nats, variant)
    assert_close(loss.total, loss.terms["distortion"].mean() + 0.5 * floored)
    assert_close(loss.terms["rate"], rates.sum(1))


def test_evaluation_knows_no_floor() -> None:
    model, batch = reference_model(CONTEXT), Batch(torch.randn(6, X))
    loss = ELBO(free_bits=FreeBits(100.0))(model, batch, Progress.at_end())
    assert_close(loss.total, -loss.terms["elbo"].mean())
    assert float(ELBO(free_bits=FreeBits(100.0))(model, batch, Progress()).total.detach()) > 100


@pytest.mark.parametrize("variant", ["batch_per_dimension", "example_per_dimension"])
def test_floor_per_dimension_needs_a_rate_of_every_dimension(variant: Any) -> None:
    model, batch = reference_model(CONTEXT), Batch(torch.randn(6, X))
    message = "objective.free_bits.variant: .* needs a rate of every dimension"
    with pytest.raises(ConfigError, match=message):
        ELBO(free_bits=FreeBits(0.1, variant), rate="monte_carlo")(model, batch, Progress())

    class Other(nn.Module):
        def forward(self) -> Any:
            return Independent(Laplace(torch.zeros(D), torch.ones(D)), 1)

    model.prior = Other()
    with pytest.raises(ConfigError, match=f"{message}, but the posterior is DiagonalNormal, the prior Independent"):
        ELBO(free_bits=FreeBits(0.1, variant))(model, batch, Progress())
    loss = ELBO(free_bits=FreeBits(100.0))(model, batch, Progress())
    assert_close(loss.total, loss.terms["distortion"].mean() + 100.0)


def test_reconstruction_is_the_distortion_alone() -> None:
    model, batch = reference_model(CONTEXT), Batch(torch.randn(6, X))
    loss = ELBO(0.0, samples=3)(model, batch, Progress())
    assert loss.inference.z.shape == (3, 6, D)
    assert_close(loss.total, loss.terms["distortion"].mean())
    assert_close(loss.terms["elbo"], -(loss.terms["distortion"] + loss.terms["rate"]))
    assert_close(loss.terms["rate"], loss.inference.rate())
    assert loss.weights == {"rate_weight": 0}
    assert isinstance(ReconstructionConfig().build(CONTEXT), ELBO)


# -------------------------------------------------------------------------------------------------------------- config


def test_config_builds_what_it_says() -> None:
    built = ELBOConfig.model_validate(
        {
            "rate_weight": {"type": "linear", "until_epoch": 3},
            "free_bits": {"nats": 2},
            "rate": "analytic",
            "samples": 4,
        }
    ).build(CONTEXT)
    assert isinstance(built.rate_weight, LinearSchedule)
    assert built.rate_weight.length() == 3
    assert built.free_bits == FreeBits(2.0, "batch_total")
    assert (built.rate, built.samples) == ("analytic", 4)
    assert ReconstructionConfig(samples=2).build(CONTEXT).samples == 2


def test_a_number_is_a_constant_weight() -> None:
    config = ELBOConfig.model_validate({"rate_weight": 0.25})
    assert config.build(CONTEXT).rate_weight(Progress()) == 0.25


@pytest.mark.parametrize(
    "fields",
    [
        {"samples": 0},
        {"rate": "exact"},
        {"free_bits": {"nats": -1}},
        {"free_bits": {"nats": 1, "variant": "total"}},
        {"free_bits": {"nats": 1, "varient": "batch_total"}},
        {"rate_weight": "linear"},
        {"rate_weight": True},
        {"rate_weights": 1},
    ],
)
def test_config_refuses(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ELBOConfig.model_validate(fields)
