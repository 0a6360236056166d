"""Against reference numbers: the released MMD, run as it is, and double loops over the paper's Stein direction."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor
from uncollapse.distributions import standard_normal
from uncollapse_infovae import MMD, Kernel, Stein, functional, kernels

MMD_CASES = ("small", "unequal", "d1", "big")
STEIN_CASES = ("small", "d1_shifted", "big")

# What the reference calls its bandwidths, and the names here.
STEIN_BANDWIDTHS: dict[str, Any] = {
    "fixed_h=1": 1.0,
    "fixed_h=d": "dimension",
    "fixed_h=2d": "twice_dimension",
    "median_svgd_paper: med(dist offdiag)^2/log(n)": "median",
    "median_sq_incl_diag/log(n+1)": "median_released",
}


class MMDCase:
    def __init__(self, reference: dict[str, Any], name: str) -> None:
        self.expected, self.rtol = reference["expected"][name], reference["rtol"]
        self.z = torch.tensor(reference["inputs"][name]["z"], dtype=torch.float64, requires_grad=True)
        self.prior = torch.tensor(reference["inputs"][name]["true_samples"], dtype=torch.float64)

    def mmd(self, bandwidth: Any, statistic: str = "v", **options: Any) -> Tensor:
        kernel = Kernel(bandwidth=bandwidth).on(self.z, self.prior)
        return functional.mmd(self.z, self.prior, kernel, statistic, **options)

    def agrees(self, found: Tensor, key: str) -> None:
        assert_allclose(found.detach().numpy(), self.expected[key], rtol=self.rtol, atol=1e-10, err_msg=key)


@pytest.fixture(params=MMD_CASES)
def case(request: pytest.FixtureRequest, oracle: Any) -> MMDCase:
    return MMDCase(oracle("mmd"), request.param)


def test_released_value_and_gradient(case: MMDCase) -> None:
    value = case.mmd("released")
    case.agrees(value, "code_mmd")
    case.agrees(value, "biased_V_stat_h=d^2 (released)")
    case.agrees(torch.autograd.grad(value, case.z)[0], "code_grad_z")


@pytest.mark.parametrize(
    ("key", "bandwidth", "statistic"),
    [
        ("unbiased_U_stat_h=d^2", "released", "u"),
        ("biased_h=d", "dimension", "v"),
        ("biased_h=2d", "twice_dimension", "v"),
        ("unbiased_h=2d", "twice_dimension", "u"),
        ("biased_h=1", 1.0, "v"),
    ],
)
def test_other_bandwidths_and_statistics(case: MMDCase, key: str, bandwidth: Any, statistic: str) -> None:
    case.agrees(case.mmd(bandwidth, statistic), key)


def test_blocks_change_nothing(case: MMDCase) -> None:
    """In blocks of one row, which are computed anew for the gradient, as for sets too large for one matrix."""
    value = case.mmd("released", pairs_at_once=1)
    case.agrees(value, "code_mmd")
    case.agrees(torch.autograd.grad(value, case.z)[0], "code_grad_z")
    case.agrees(case.mmd("released", "u", pairs_at_once=20), "unbiased_U_stat_h=d^2")


def test_released_kernel(case: MMDCase) -> None:
    kernel = Kernel().on(case.z, case.prior)
    case.agrees(kernel(functional.squared_distances(case.z[:1], case.z))[0], "kernel_zz_row0")


def test_dividing_by_the_dimension_once_is_another_number(case: MMDCase) -> None:
    """Trap: the released kernel takes a mean over dimensions and divides by their number again."""
    once = case.mmd("dimension").item()
    same = case.z.shape[1] == 1
    assert math.isclose(once, case.expected["code_mmd"], rel_tol=1e-3) == same


def test_regularizer_weighs_the_released_discrepancy(case: MMDCase) -> None:
    class Fixed(torch.distributions.Distribution):
        """A prior whose draws are the reference's."""

        arg_constraints = {}  # noqa: RUF012 - torch's own signature
        has_rsample = True

        def __init__(self, draws: Tensor) -> None:
            super().__init__(torch.Size(), draws.shape[1:], validate_args=False)
            self.draws = draws

        def rsample(self, sample_shape: Any = ()) -> Tensor:
            assert tuple(sample_shape) == (len(self.draws),)
            return self.draws

    penalty = MMD(weight=784, prior_samples=len(case.prior))(case.z, Fixed(case.prior))
    case.agrees(penalty.terms["mmd"], "code_mmd")
    assert_allclose(penalty.total.item(), 784 * case.expected["code_mmd"], rtol=case.rtol)


# --------------------------------------------------------------------------------------------------------------- Stein


class SteinCase:
    def __init__(self, reference: dict[str, Any], name: str, bandwidth: str) -> None:
        self.expected, self.rtol = reference["expected"][name][bandwidth], reference["rtol"]
        self.z = torch.tensor(reference["inputs"][name]["z"], dtype=torch.float64, requires_grad=True)
        self.bandwidth = STEIN_BANDWIDTHS[bandwidth]
        self.h = kernels.stein_bandwidth(self.z, self.bandwidth)

    def agrees(self, found: Any, key: str) -> None:
        found = found.detach().numpy() if isinstance(found, Tensor) else found
        assert_allclose(found, self.expected[key], rtol=self.rtol, atol=1e-10, err_msg=key)


@pytest.fixture(params=STEIN_CASES)
def stein(request: pytest.FixtureRequest, oracle: Any) -> list[SteinCase]:
    return [SteinCase(oracle("stein"), request.param, bandwidth) for bandwidth in STEIN_BANDWIDTHS]


def test_stein_bandwidths_and_directions(stein: list[SteinCase]) -> None:
    for case in stein:
        case.agrees(case.h, "h")
        phi = functional.stein_direction(case.z, -case.z, case.h)
        case.agrees(phi, "phi")
        case.agrees(functional.stein_direction(case.z, -case.z, case.h, pairs_at_once=1), "phi")
        case.agrees((case.z * phi).sum(), "surrogate_sum_zT_phi (paper, as printed)")


def test_stein_surrogate_and_its_gradient(stein: list[SteinCase]) -> None:
    for case in stein:
        phi = functional.stein_direction(case.z, -case.z, case.h)
        surrogate = functional.stein_surrogate(case.z, phi)
        case.agrees(surrogate, "correct_minimised_surrogate = -mean_i z_i.phi_i")
        case.agrees(torch.autograd.grad(surrogate, case.z)[0], "grad_of_correct_surrogate")


def test_stein_regularizer_has_the_surrogate_s_gradient(stein: list[SteinCase]) -> None:
    """Through the whole regularizer: no gradient goes through the direction or the bandwidth, a median included."""
    for case in stein:
        penalty = Stein(weight=3.0, bandwidth=case.bandwidth)(case.z, standard_normal((case.z.shape[1],)))
        (gradient,) = torch.autograd.grad(penalty.total, case.z)
        case.agrees(gradient / 3, "grad_of_correct_surrogate")
        case.agrees(penalty.terms["surrogate"], "correct_minimised_surrogate = -mean_i z_i.phi_i")


def test_stein_sign_lowers_the_divergence(oracle: Any) -> None:
    """Descending the penalty moves codes to where a Gaussian fitted to them is closer to the prior; the printed
    surrogate, subtracted from what is maximised, moves them away.
    """
    for bandwidth in STEIN_BANDWIDTHS:
        case = SteinCase(oracle("stein"), "d1_shifted", bandwidth)
        total = Stein(weight=1.0, bandwidth=case.bandwidth)(case.z).total
        (gradient,) = torch.autograd.grad(total, case.z)
        step = 0.05 * len(case.z)
        case.agrees(_divergence_of_fit(case.z), "gaussian_fit_KL_before")
        case.agrees(_divergence_of_fit(case.z - step * gradient), "gaussian_fit_KL_after_z+0.05phi")
        case.agrees(_divergence_of_fit(case.z + step * gradient), "gaussian_fit_KL_after_z-0.05phi (naive sign)")
        assert _divergence_of_fit(case.z - step * gradient) < _divergence_of_fit(case.z)


def _divergence_of_fit(z: Tensor) -> Tensor:
    mean, variance = z.mean(), z.var()
    return 0.5 * (mean.square() + variance - 1 - variance.log())
