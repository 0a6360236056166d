"""Kernels and statistics against brute force and against what Gaussians give in closed form."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor
from uncollapse.errors import ConfigError, ShapeError
from uncollapse_infovae import Kernel, functional, kernels

N, M, K = 20, 14, 3


@pytest.fixture
def points() -> tuple[Tensor, Tensor]:
    """Codes that lie off the prior, and draws of it, float64."""
    return 0.5 + 0.8 * torch.randn(N, K, dtype=torch.float64), torch.randn(M, K, dtype=torch.float64)


def brute_force(z: Tensor, prior: Tensor, kernel: Any, statistic: str) -> float:
    def mean(a: Tensor, b: Tensor, skip: bool) -> float:
        values = [
            kernel(((x - y) ** 2).sum()).item()
            for i, x in enumerate(a)
            for j, y in enumerate(b)
            if not (skip and i == j)
        ]
        return sum(values) / len(values)

    skip = statistic == "u"
    return mean(z, z, skip) + mean(prior, prior, skip) - 2 * mean(z, prior, False)


@pytest.mark.parametrize("statistic", ["v", "u"])
@pytest.mark.parametrize(
    "kernel",
    [
        Kernel("inverse_multiquadratic", "twice_dimension"),
        Kernel("rbf", "dimension", (0.2, 1.0, 5.0)),
        Kernel("inverse_multiquadratic", 0.7, (0.5, 2.0)),
        Kernel("rbf", "median"),
    ],
    ids=lambda k: f"{k.family}-{k.bandwidth}-{len(k.scales)}",
)
def test_mmd_is_the_double_loop(kernel: Kernel, statistic: Any, points: tuple[Tensor, Tensor]) -> None:
    z, prior = points
    both = torch.cat(points)
    apart = (both[:, None] - both[None]).norm(dim=-1)[torch.triu(torch.ones(N + M, N + M), 1).bool()]
    h = {"dimension": K, "twice_dimension": 2 * K, "median": 2 * apart.quantile(0.5).item() ** 2}.get(
        str(kernel.bandwidth), kernel.bandwidth
    )

    def plain(r2: Tensor) -> Tensor:
        widths = torch.tensor([h * s for s in kernel.scales], dtype=torch.float64)
        return ((-r2 / widths).exp() if kernel.family == "rbf" else 1 / (1 + r2 / widths)).mean()

    found = functional.mmd(z, prior, kernel.on(z, prior), statistic)
    assert_allclose(found, brute_force(z, prior, plain, statistic), rtol=1e-9)


def test_v_statistic_lies_above_the_u_statistic_by_what_points_make_with_themselves(
    points: tuple[Tensor, Tensor],
) -> None:
    z, prior = points
    kernel = Kernel(bandwidth="dimension").on(z, prior)
    v, u = (functional.mmd(z, prior, kernel, s) for s in ("v", "u"))
    within = [(functional.kernel_row_sums(t, t, kernel).sum() - len(t)) / (len(t) * (len(t) - 1)) for t in points]
    assert_allclose(v - u, (1 - within[0]) / N + (1 - within[1]) / M, rtol=1e-9)
    assert v > u


def gaussian_mmd(mean: float, std: float, h: float, size: int) -> float:
    """Squared MMD of ``N(mean, std² I)`` and ``N(0, I)`` under ``exp(-r²/h)``, in closed form."""

    def expected(variance: float, distance: float = 0.0) -> float:
        widened = 1 + 2 * variance / h
        return widened ** (-size / 2) * math.exp(-distance / (h * widened))

    return expected(2 * std**2) + expected(2.0) - 2 * expected(1 + std**2, size * mean**2)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.5, 0.8), (0.0, 1.5)])
def test_expectation_for_gaussians(mean: float, std: float) -> None:
    """The U-statistic is unbiased; the V-statistic is too high by its diagonal, in closed form too."""
    size, h = 4, 4.0
    draws = 600
    z = mean + std * torch.randn(draws, 24, size, dtype=torch.float64)
    prior = torch.randn(draws, 16, size, dtype=torch.float64)
    kernel = Kernel(bandwidth=h).on(z, prior)
    truth = gaussian_mmd(mean, std, h, size)
    diagonal = (1 - (1 + 4 * std**2 / h) ** (-size / 2)) / 24 + (1 - (1 + 4 / h) ** (-size / 2)) / 16
    for statistic, expected in (("u", truth), ("v", truth + diagonal)):
        found = functional.mmd(z, prior, kernel, statistic)
        assert found.shape == (draws,)
        error = found.std().item() / math.sqrt(draws)
        assert abs(found.mean().item() - expected) < 3 * error, statistic
        assert error < 0.25 * diagonal, "the two expectations could not be told apart"


@pytest.mark.parametrize(("mean", "low", "high"), [(0.6, 0.85, 1.2), (0.0, 1.1, 1.6)])
def test_standard_error_is_the_deviation_over_draws(mean: float, low: float, high: float) -> None:
    """Where codes and prior agree only the second order is left, and counted twice, as the docstring says."""
    kernel = Kernel(bandwidth=4.0).on(torch.zeros(1, 4), torch.zeros(1, 4))
    found = [functional.mmd_with_error(mean + torch.randn(60, 4), torch.randn(80, 4), kernel, "u") for _ in range(150)]
    values, errors = torch.tensor(found, dtype=torch.float64).T
    assert low < errors.mean() / values.std() < high


def test_value_with_error_is_the_value() -> None:
    z, prior = torch.randn(20, 2, dtype=torch.float64), torch.randn(15, 2, dtype=torch.float64)
    kernel = Kernel("inverse_multiquadratic", "median").on(z, prior)
    for statistic in ("v", "u"):
        value, _ = functional.mmd_with_error(z, prior, kernel, statistic, pairs_at_once=31)
        assert_allclose(value, functional.mmd(z, prior, kernel, statistic), rtol=1e-9)


def test_sets_along_leading_dimensions_are_separate(points: tuple[Tensor, Tensor]) -> None:
    z, prior = points
    kernel = Kernel(bandwidth=2.0).on(z, prior)
    together = functional.mmd(torch.stack([z, 2 * z]), prior, kernel)
    assert_allclose(together, [functional.mmd(z, prior, kernel), functional.mmd(2 * z, prior, kernel)], rtol=1e-9)


def test_blocks_have_the_gradient_of_the_whole(points: tuple[Tensor, Tensor]) -> None:
    """Also for draws of the prior, which a learned prior moves, and for several sets."""
    z, prior = (torch.stack([p, p + 1]).requires_grad_() for p in points)
    kernel = Kernel("inverse_multiquadratic", 2.0).on(z, prior)
    whole, blocks = (
        torch.autograd.grad(functional.mmd(z, prior, kernel, pairs_at_once=n).sum(), (z, prior)) for n in (10**6, 100)
    )
    for one, other in zip(whole, blocks, strict=True):
        assert_allclose(other, one, rtol=1e-9, atol=1e-15)


def test_blocks_say_that_they_are_differentiable_once() -> None:
    z, prior = torch.randn(9, 2, requires_grad=True), torch.randn(9, 2)
    value = functional.mmd(z, prior, Kernel(bandwidth=1.0).on(z, prior), pairs_at_once=9)
    with pytest.raises(RuntimeError, match="differentiable once"):
        torch.autograd.grad(value, z, create_graph=True)


@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_distances_keep_their_precision_far_from_the_origin(offset: float) -> None:
    a, b = (offset + torch.randn(n, 5) for n in (30, 20))
    found = functional.squared_distances(a, b)
    exact = (a.double()[:, None] - b.double()[None]).square().sum(-1)
    assert_allclose(found, exact, atol=2e-5)


def test_half_precision_is_computed_in_float32() -> None:
    z, prior = torch.randn(30, 4), torch.randn(30, 4)
    kernel = Kernel().on(z, prior)
    with torch.autocast("cpu", torch.bfloat16):
        found = functional.mmd(z, prior, kernel)
    assert found.dtype == torch.float32
    assert_allclose(found, functional.mmd(z.double(), prior.double(), kernel), atol=2e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(3, 2), torch.zeros(3, 4), "v"), r"codes \[..., N, K\] and draws .*found \(3, 2\) and \(3, 4\)"),
        ((torch.zeros(1, 2), torch.zeros(3, 2), "u"), "needs two of each, found 1 codes and 3 draws.*batch_size"),
    ],
)
def test_shapes_that_do_not_fit(arguments: Any, message: str) -> None:
    z, prior, statistic = arguments
    with pytest.raises(ShapeError, match=message):
        functional.mmd(z, prior, Kernel(bandwidth=1.0).on(z, prior), statistic)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"family": "cosine"}, "kernel: expected one of rbf, inverse_multiquadratic, found 'cosine'"),
        ({"bandwidth": "silverman"}, "bandwidth: expected a positive number or one of released, .*found 'silverman'"),
        ({"bandwidth": 0.0}, "bandwidth: expected a positive number"),
        ({"scales": ()}, "scales: expected positive factors"),
        ({"scales": (1.0, -1.0)}, "scales: expected positive factors"),
    ],
)
def test_impossible_kernels(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Kernel(**options)


# --------------------------------------------------------------------------------------------------------------- Stein


def test_stein_direction_is_the_double_loop() -> None:
    """With a prior that is no standard Gaussian, by autograd on the kernel itself."""
    z, h = torch.randn(9, 3, dtype=torch.float64), 1.7
    score = -2 * (z - 1)
    phi = torch.zeros_like(z)
    for i, z_i in enumerate(z):
        for j in range(len(z)):
            z_j = z[j].clone().requires_grad_()
            k = (-(z_j - z_i).square().sum() / h).exp()
            phi[i] += (k.detach() * score[j] + torch.autograd.grad(k, z_j)[0]) / len(z)
    assert_allclose(functional.stein_direction(z, score, h), phi, rtol=1e-9)


def test_stein_discrepancy_is_the_rate_at_which_the_direction_lowers_the_divergence() -> None:
    """``mean_i s_i . phi(z_i) + div phi(z_i)``, the divergence of the field by autograd: Liu and Wang, eq. 5."""
    z, h = 0.3 + torch.randn(12, 2, dtype=torch.float64), 2.5
    score = -z
    phi = functional.stein_direction(z, score, h)
    rate = (score * phi).sum(1).mean()
    for i in range(len(z)):
        for d in range(2):
            at = z[i].clone().requires_grad_()
            k = (-(z - at).square().sum(1) / h).exp()
            field = (k * score[:, d] + (2 / h) * (at[d] - z[:, d]) * k).mean()
            rate = rate + torch.autograd.grad(field, at)[0][d] / len(z)
    for pairs in (1, 10**6):
        assert_allclose(functional.stein_discrepancy(z, score, h, pairs), rate, rtol=1e-9)


def test_stein_discrepancy_vanishes_where_codes_match_the_prior() -> None:
    z = torch.randn(500, 2)
    matched = functional.stein_discrepancy(z, -z, 2.0)
    narrow = functional.stein_discrepancy(0.3 * z, -0.3 * z, 2.0)
    assert 0 <= matched < 0.02
    assert narrow > 0.5


@pytest.mark.parametrize("bandwidth", ["median", "median_released"])
def test_codes_without_a_scale_have_a_bandwidth(bandwidth: Any) -> None:
    for z in (torch.ones(1, 3), torch.ones(5, 3)):
        assert math.isfinite(float(kernels.stein_bandwidth(z, bandwidth)))
        assert float(kernels.stein_bandwidth(z, bandwidth)) > 0


# -------------------------------------------------------------------------------------------------------------- others


def test_log_determinant_of_a_known_covariance() -> None:
    """Rows that have the covariance exactly, so the number is the closed form's."""
    covariance = torch.tensor([[2.0, 0.5], [0.5, 0.25]], dtype=torch.float64)
    rows = torch.randn(50, 2, dtype=torch.float64)
    rows = rows - rows.mean(0)
    whitened = rows @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(rows.T))).T
    z = 7 + whitened @ torch.linalg.cholesky(covariance).T
    assert_allclose(functional.log_determinant(z), math.log(2 * 0.25 - 0.5**2) / 2, rtol=1e-9)


def test_log_determinant_of_one_dimension_and_of_a_plane() -> None:
    z = torch.randn(20, 1, dtype=torch.float64)
    assert_allclose(functional.log_determinant(z), z.var().log(), rtol=1e-12)
    assert functional.log_determinant(torch.cat([z, torch.zeros_like(z)], 1)) == -math.inf
    with pytest.raises(ShapeError, match=r"expected codes \[N, K\] with N at least 2"):
        functional.log_determinant(z[:1])


def test_class_mismatch_in_closed_form() -> None:
    true, generated = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.25, 0.5, 0.25])
    assert_allclose(functional.class_mismatch(true, generated), 0.5 * math.log(2), rtol=1e-6)
    assert functional.class_mismatch(true, true) == 0
    assert functional.class_mismatch(generated, true) == math.inf
