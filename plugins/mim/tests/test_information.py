"""Nearest-neighbour estimates of mutual information against plain loops, known answers, and where they fail."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import digamma
from torch import Tensor
from uncollapse.config import BuildContext
from uncollapse.errors import ConfigError
from uncollapse.protocols import Batch, DataSpec
from uncollapse_kit import reference_model
from uncollapse_mim import KSG, KSGConfig
from uncollapse_mim.functional import ksg


def correlated(count: int, rho: float, dimensions: int = 1, seed: int = 0) -> tuple[np.ndarray, np.ndarray, float]:
    """Gaussian pairs and their mutual information, nats."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, dimensions))
    z = rho * x + math.sqrt(1 - rho**2) * rng.normal(size=(count, dimensions))
    return x, z, -0.5 * dimensions * math.log(1 - rho**2)


def by_loops(x: np.ndarray, z: np.ndarray, k: int, algorithm: str) -> float:
    """Kraskov's two algorithms as the paper defines them, point by point."""
    count, total = len(x), 0.0
    for i in range(count):
        dx, dz = np.abs(x - x[i]).max(1), np.abs(z - z[i]).max(1)
        others = np.arange(count) != i
        order = np.argsort(np.where(others, np.maximum(dx, dz), np.inf), kind="stable")
        near = order[:k]
        if algorithm == "ksg1":
            radius = max(dx[near[-1]], dz[near[-1]])
            nx, nz = ((others & (d < radius)).sum() for d in (dx, dz))
            total += digamma(nx + 1) + digamma(nz + 1)
        else:
            nx, nz = ((others & (d <= d[near].max())).sum() for d in (dx, dz))
            total += digamma(nx) + digamma(nz) + 1 / k
    return float(digamma(k) + digamma(count) - total / count)


@pytest.mark.parametrize("algorithm", ["ksg1", "ksg2"])
@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("dimensions", [1, 3])
def test_agrees_with_the_definition(algorithm: str, k: int, dimensions: int) -> None:
    x, z, _ = correlated(150, 0.7, dimensions)
    assert ksg(x, z, k, algorithm).value == pytest.approx(by_loops(x, z, k, algorithm), abs=1e-12)


@pytest.mark.parametrize(("algorithm", "norm"), [("ksg1", "max"), ("ksg2", "max"), ("revised", "euclidean")])
def test_finds_the_information_of_gaussians(algorithm: str, norm: str) -> None:
    for rho in (0.0, 0.6, 0.9):
        x, z, truth = correlated(4000, rho)
        assert ksg(x, z, 5, algorithm, norm).value == pytest.approx(truth, abs=0.05)


@pytest.mark.parametrize("algorithm", ["ksg1", "ksg2", "revised"])
def test_is_symmetric_and_ignores_order_and_shift(algorithm: str) -> None:
    x, z, _ = correlated(300, 0.8, 2)
    here = ksg(x, z, 5, algorithm).value
    order = np.random.default_rng(1).permutation(300)
    assert ksg(z, x, 5, algorithm).value == pytest.approx(here, abs=1e-12)
    assert ksg(x[order], z[order], 5, algorithm).value == pytest.approx(here, abs=1e-12)
    assert ksg(x + 2.0, z - 8.0, 5, algorithm).value == pytest.approx(here, abs=1e-9)


@pytest.mark.parametrize("algorithm", ["ksg1", "ksg2", "revised"])
def test_saturates_below_its_ceiling(algorithm: str) -> None:
    """One variable copied: the truth is infinite, the estimate is the ceiling that it states."""
    x = np.random.default_rng(0).normal(size=(500, 1))
    copied = ksg(x, x, 5, algorithm)
    # The first algorithm does not count the k-th neighbour, the others count it and have their constant for it.
    assert copied.value == pytest.approx(copied.ceiling, abs=1e-12)
    noisy = ksg(x, x + 1e-3 * np.random.default_rng(1).normal(size=x.shape), 5, algorithm)
    assert noisy.value < noisy.ceiling < 0.5 * math.log(1 + 1e6) - 2


def test_ceiling_of_the_paper_s_setting() -> None:
    x, z, _ = correlated(10_000, 0.9, 2)
    assert ksg(x, z).ceiling == pytest.approx(digamma(10_000) - digamma(5))


def test_ties_are_counted_and_leave_the_number_finite() -> None:
    x, z, _ = correlated(400, 0.8)
    assert ksg(x, z).ties == 0
    tied = ksg(np.round(x), np.round(z))
    assert tied.ties > 300
    assert np.isfinite(tied.terms).all()
    same = ksg(np.zeros((50, 1)), np.zeros((50, 2)))
    assert same.ties == 50
    # Nothing is known of one from the other where neither varies.
    assert same.value < 0.0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"neighbors": 10}, "neighbors must be 1 to 9 for 10 points"),
        ({"neighbors": 0}, "neighbors must be"),
        ({"z": np.zeros((9, 1))}, "10 and 9 points"),
        ({"x": np.full((10, 1), np.nan)}, "NaN"),
        ({"norm": "euclidean"}, "defined in the max norm"),
        ({"algorithm": "ksg3"}, "algorithm must be"),
    ],
)
def test_refuses(arguments: dict[str, Any], told: str) -> None:
    whole = {"x": np.random.rand(10, 1), "z": np.random.rand(10, 1), **arguments}  # noqa: NPY002
    with pytest.raises(ValueError, match=told):
        ksg(**whole)


# ----------------------------------------------------------------------------------------------------------- estimator


def passes(x: Tensor, size: int = 100) -> Callable[[], Iterable[Batch]]:
    return lambda: (Batch(part) for part in x.split(size))


def test_estimator_measures_the_data_with_one_sample_of_their_codes(linear: Any) -> None:
    model, x = linear.model(), linear.data(3000)
    found = KSG()(model, passes(x))["ksg_mutual_information"]
    assert found.value == pytest.approx(0.8267273989254375, abs=0.08)
    assert found.unit == "nats"
    assert found.count == 3000
    assert 0 < found.standard_error < 0.05
    assert "at most 6.50 nats for 3000 examples, saturates before" in found.note
    assert "tied" not in found.note
    some = KSG(examples=250)(model, passes(x))["ksg_mutual_information"]
    assert some.count == 250


def test_estimator_says_that_discrete_data_tie_and_jitter_breaks_the_ties() -> None:
    # Codes that do not vary, and data on a grid: neighbours at equal distances.
    model = reference_model(BuildContext(DataSpec((1,), "real"), (1,), (4,)))
    with torch.no_grad():
        model.posterior.head.weight.zero_()
        model.posterior.head.bias.fill_(-200.0)
    grid = torch.arange(200.0)[:, None] % 7
    tied = KSG()(model, passes(grid))["ksg_mutual_information"]
    assert "200 examples have tied neighbours" in tied.note
    jittered = KSG(jitter=1e-6)(model, passes(grid))["ksg_mutual_information"]
    assert "tied" not in jittered.note


def test_estimator_needs_more_examples_than_neighbours(linear: Any) -> None:
    with pytest.raises(ConfigError, match=r"evaluation.estimators \(mim.ksg\): 5 neighbors need more than 4 examples"):
        KSG()(linear.model(), passes(linear.data(4)))


def test_config_knows_the_norms() -> None:
    with pytest.raises(ValueError, match="ksg1 is defined in the max norm"):
        KSGConfig(norm="euclidean")
    assert KSGConfig(norm="euclidean", algorithm="revised").norm == "euclidean"
