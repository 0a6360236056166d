"""Every reading and variant, the losses and latent clipping against independent numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.testing import assert_close
from uncollapse.distributions import DiagonalNormal, kl_per_dimension, standard_normal
from uncollapse.likelihoods import GaussianLikelihood
from uncollapse_muvae import LatentClipping, ModifiedKL
from uncollapse_muvae.functional import LogVarianceTerm, MeanTerm, logvar_term, mean_term

CASES = ("small", "big", "witness_dims_cancel", "witness_samples_cancel", "witness_global_only")
READINGS: dict[MeanTerm, str] = {"global": "R1", "per_example": "R2", "per_dimension": "R3", "elementwise": "R4"}
LOG_VARIANCES: dict[LogVarianceTerm, str] = {
    "linear": "logvar_term_paper",
    "absolute": "logvar_term_abs",
    "exp_minus_one": "logvar_term_exp_minus_1",
    "full": "logvar_term_full",
}
Numbers = tuple[dict[str, Tensor], dict[str, Any]]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, oracle: Callable[[str], dict[str, Any]]) -> Numbers:
    """Return inputs as float64 tensors, and what is expected of them."""
    loaded = oracle("mu_vae")
    inputs = {name: torch.from_numpy(array).double() for name, array in loaded["inputs"][request.param].items()}
    return inputs, loaded["expected"][request.param]


def close(found: Tensor, expected: float | list[float] | NDArray[Any]) -> None:
    assert_close(found, torch.as_tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-10)


def named(numbers: dict[str, Any], reading: MeanTerm) -> float:
    (found,) = (value for name, value in numbers.items() if name.startswith(READINGS[reading]))
    return float(found)


def test_every_name_is_compared() -> None:
    assert set(READINGS) == set(get_args(MeanTerm))
    assert set(LOG_VARIANCES) == set(get_args(LogVarianceTerm))


def test_terms(case: Numbers) -> None:
    inputs, expected = case
    for reading in READINGS:
        close(mean_term(inputs["mu"], reading), named(expected["mean_term"], reading))
    for variant, name in LOG_VARIANCES.items():
        (value,) = (value for key, value in expected.items() if key.startswith(f"{name}:"))
        close(logvar_term(inputs["logvar"], variant), value)
    close(inputs["mu"].mean(0), expected["column_means"])


def test_rate_is_eq_3(case: Numbers) -> None:
    inputs, expected = case
    q = DiagonalNormal(inputs["mu"], inputs["logvar"])
    prior = standard_normal(tuple(q.event_shape))
    close(kl_per_dimension(q, prior).sum(1).mean(), expected["standard_kl_eq3_mean"])


@pytest.mark.parametrize(("prefactor", "scale", "weight"), [("1/B", math.sqrt(0.5), 1.0), ("1/(2B)", 1.0, 0.5)])
def test_whole_loss(case: Numbers, prefactor: str, scale: float, weight: float) -> None:
    """The Gaussian distortion is the squared error and a constant, for either prefactor of eq. 6."""
    inputs, expected = case
    likelihood = GaussianLikelihood((12,), scale=scale).double()
    distortion = -likelihood(inputs["x_recon"]).log_prob(inputs["x"]).mean()
    constant = 12 * (0.5 * math.log(2 * math.pi) + math.log(scale))
    error = distortion - constant
    assert_close(error.item(), expected["recon_sum_sq_over_B"] * weight, rtol=1e-6, atol=0)
    assert_close(error.item() / 12, expected["recon_mean_all_elements"] * weight, rtol=1e-6, atol=0)
    for reading in READINGS:
        penalty = ModifiedKL(reading, weight=weight)(DiagonalNormal(inputs["mu"], inputs["logvar"]))
        wanted = named(expected[f"total_loss_prefactor_{prefactor}"], reading)
        assert_close((error + penalty.total).item(), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("c", [3, 6])
def test_clipping(case: Numbers, c: int) -> None:
    inputs, expected = case
    mean = inputs["mu"].clone().requires_grad_()
    found, logvar = LatentClipping(float(c))(mean, inputs["logvar"])
    assert logvar is inputs["logvar"]
    close(found.detach(), expected[f"clip_{c}_mu"])
    limit = expected[f"clip_{c}_limit"]
    assert found.norm(dim=1).max().item() <= limit * (1 + 1e-12)
    outside = mean.norm(dim=1) > limit
    close(found[outside].norm(dim=1), [limit] * int(outside.sum()))
    for reading in READINGS:
        close(mean_term(found.detach(), reading), named(expected[f"clip_{c}_mean_term"], reading))
    (grad,) = torch.autograd.grad((inputs["w_for_clip_grad"] * found).sum(), mean)
    close(grad, expected[f"clip_{c}_grad_of_sum(w*clipped)_wrt_mu"])
