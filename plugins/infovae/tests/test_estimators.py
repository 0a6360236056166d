"""Estimators over whole sets: closed forms, bounded memory, and what a classifier says of generated data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor, nn
from torch.distributions import Distribution
from uncollapse import Batch, DiagonalNormal, LatentVariableModel
from uncollapse.capabilities import supports
from uncollapse.config import BuildContext
from uncollapse.distributions import standard_normal
from uncollapse.errors import ConfigError, ShapeError
from uncollapse.protocols import DataSpec, NeedsTrainingData
from uncollapse_infovae import (
    ClassMismatch,
    ClassMismatchConfig,
    Kernel,
    LogDeterminant,
    MMDEstimator,
    MMDEstimatorConfig,
    functional,
)


class Posterior(nn.Module):
    """``q(z|x) = N(x, std² I)`` for data ``[B, *D]``."""

    feature_shape = (3,)

    def __init__(self, std: float, latent_shape: tuple[int, ...] = (3,)) -> None:
        super().__init__()
        self.std, self.latent_shape = std, latent_shape

    def forward(self, h: Tensor, progress: object = None) -> DiagonalNormal:
        mean = h.reshape(-1, *self.latent_shape)
        return DiagonalNormal(mean, torch.full_like(mean, 2 * math.log(self.std)), len(self.latent_shape))


class Prior(nn.Module):
    def __init__(self, latent_shape: tuple[int, ...] = (3,)) -> None:
        super().__init__()
        self.latent_shape = latent_shape

    def forward(self) -> Distribution:
        return standard_normal(self.latent_shape)


def model(std: float, latent_shape: tuple[int, ...] = (3,)) -> LatentVariableModel:
    return LatentVariableModel(nn.Identity(), Posterior(std, latent_shape), Prior(latent_shape), nn.Identity())


def batches_of(x: Tensor, labels: Tensor | None = None, size: int = 64) -> Callable[[], Iterable[Batch]]:
    def batches() -> Iterable[Batch]:
        for start in range(0, len(x), size):
            part = slice(start, start + size)
            yield Batch(x[part], None if labels is None else labels[part])

    return batches


# ----------------------------------------------------------------------------------------------------------------- MMD


def test_mmd_of_a_known_aggregate() -> None:
    """Data ``N(m, 0.6²)`` and noise ``0.8``: the aggregate is ``N(m, 1)``, so the discrepancy has a closed form."""
    shift, h = 0.5, 3.0
    x = shift + 0.6 * torch.randn(3000, 3)
    found = MMDEstimator(Kernel(bandwidth=h), "u", pairs_at_once=2**18)(model(0.8), batches_of(x))["mmd"]
    cross = (1 + 4 / h) ** -1.5
    truth = 2 * cross * (1 - math.exp(-3 * shift**2 / (h + 4)))
    assert found.standard_error is not None
    assert abs(found.value - truth) < 3 * found.standard_error < 0.3 * truth
    assert found.count == 3000
    assert found.unit == "MMD²"


def test_mmd_says_how_it_was_measured() -> None:
    estimator = MMDEstimator(Kernel("inverse_multiquadratic", "twice_dimension", (0.5, 2.0)), prior_samples=50)
    note = estimator(model(1.0), batches_of(torch.zeros(40, 3)))["mmd"].note
    assert note == (
        "V-statistic of 40 codes and 50 draws of the prior; inverse_multiquadratic kernel, h = 6 times 0.5, 2"
    )


def test_mmd_of_spatial_latents_and_in_blocks() -> None:
    x = torch.randn(90, 12)
    found = []
    for shape, pairs in (((12,), 10**6), ((3, 2, 2), 10**6), ((3, 2, 2), 100)):
        torch.manual_seed(1)
        found.append(MMDEstimator(pairs_at_once=pairs)(model(0.5, shape), batches_of(x))["mmd"])
    for other in found[1:]:
        assert_allclose([other.value, other.standard_error], [found[0].value, found[0].standard_error], rtol=1e-9)


def test_mmd_of_one_example_is_refused() -> None:
    with pytest.raises(ShapeError, match="two of each, found 1 codes"):
        MMDEstimator()(model(1.0), batches_of(torch.zeros(1, 3)))


def test_mmd_config_builds_what_it_says() -> None:
    built = MMDEstimatorConfig(bandwidth="median", scales=[1, 2], statistic="u", prior_samples=9).build(
        BuildContext(DataSpec((3,), "real"), (3,))
    )
    assert built.kernel == Kernel("rbf", "median", (1.0, 2.0))
    assert (built.statistic, built.prior_samples) == ("u", 9)
    assert MMDEstimatorConfig().build_kernel() == Kernel()


# ------------------------------------------------------------------------------------------------------ log-determinant


def test_log_determinant_of_a_known_aggregate() -> None:
    """Independent dimensions of scales 0.3, 1 and 2 and noise 0.5, far from the origin."""
    scales = torch.tensor([0.3, 1.0, 2.0])
    x = 1000 + scales * torch.randn(4000, 3)
    found = LogDeterminant()(model(0.5), batches_of(x))["log_determinant"]
    truth = (scales.square() + 0.25).log().mean().item()
    assert found.standard_error is not None
    assert abs(found.value - truth) < 3 * found.standard_error
    # For Gaussians the deviation is sqrt(2 K / N) / K.
    assert_allclose(found.standard_error, math.sqrt(2 * 3 / 4000) / 3, rtol=0.1)
    assert_allclose(found.per_dimension, scales.square() + 0.25, rtol=0.15)


def test_log_determinant_adds_up_batches_of_any_size() -> None:
    x = torch.randn(101, 3)
    whole, parts = (LogDeterminant()(model(1e-9), batches_of(x, size=n))["log_determinant"].value for n in (101, 7))
    assert_allclose(whole, parts, rtol=1e-9)
    assert_allclose(whole, functional.log_determinant(x.double()), rtol=1e-6)


def test_log_determinant_of_flat_codes_is_minus_infinity_without_an_error() -> None:
    """Two examples in three dimensions, and codes in a single point."""
    found = LogDeterminant()(model(1e-300), batches_of(torch.ones(50, 3)))["log_determinant"]
    assert found.value == -math.inf
    assert found.standard_error is None
    with pytest.raises(ShapeError, match="at least 2 examples, found 1"):
        LogDeterminant()(model(1.0), batches_of(torch.ones(1, 3)))


# ------------------------------------------------------------------------------------------------------------- mismatch

CLASSES = 4
CONTEXT = BuildContext(DataSpec((1, 2, 2), "unit_interval", classes=CLASSES), (3,))


def images(labels: Tensor) -> Tensor:
    """One pixel of four is bright, and says the class."""
    bright = torch.nn.functional.one_hot(labels, CLASSES).float()
    return (0.9 * bright + 0.1 * torch.rand(len(labels), CLASSES)).reshape(-1, 1, 2, 2)


def classes(counts: list[int]) -> Tensor:
    return torch.repeat_interleave(torch.arange(CLASSES), torch.tensor(counts))


class Generator:
    def __init__(self, counts: list[int]) -> None:
        self.counts = counts

    def __call__(self, model: Any, count: int) -> Tensor:
        assert count == sum(self.counts)
        return images(classes(self.counts))


def mismatch(generated: list[int], real: list[int] | None = None, **options: Any) -> Any:
    labels = classes(real or [50] * CLASSES)[torch.randperm(200)]
    estimator = ClassMismatch(Generator(generated), sum(generated), (16,), 300, **options)
    assert supports(estimator, NeedsTrainingData)
    estimator.prepare(batches_of(images(labels), labels))
    held_out = classes([25] * CLASSES)
    return estimator(model(1.0), batches_of(images(held_out), held_out))["class_mismatch"]


def test_mismatch_of_known_classes() -> None:
    """The classes are told apart without error, so the number is the closed form's."""
    found = mismatch([100, 200, 50, 50], smoothing=0.0)
    truth = sum(0.25 * math.log(0.25 / c) for c in (0.25, 0.5, 0.125, 0.125))
    assert_allclose(found.value, truth, rtol=1e-9)
    assert found.count == 400
    assert found.note.startswith("classifier with accuracy 1.0000 on 100 real examples, whose own mismatch is 0.0000")


def test_mismatch_of_the_data_themselves_is_zero() -> None:
    """Also where classes are not equally frequent: the reference is the data's own distribution."""
    assert_allclose(mismatch([40, 80, 20, 60], [40, 80, 20, 60], smoothing=0.0).value, 0, atol=1e-12)


def test_a_class_that_is_never_generated() -> None:
    """Infinite as printed; half a count for every class keeps the number finite, and large."""
    assert mismatch([100, 100, 100, 0], smoothing=0.0).value == math.inf
    found = mismatch([100, 100, 100, 0])
    shares = [100.5 / 302, 0.5 / 302]
    assert_allclose(found.value, 0.75 * math.log(0.25 / shares[0]) + 0.25 * math.log(0.25 / shares[1]), rtol=1e-9)


@pytest.mark.parametrize("shares", [[0.25] * 4, [0.4, 0.3, 0.2, 0.1]])
def test_standard_error_is_the_deviation_over_samples(shares: list[float]) -> None:
    from uncollapse_infovae.class_mismatch import _standard_error

    true, generated = torch.full((4,), 0.25, dtype=torch.float64), torch.tensor(shares, dtype=torch.float64)
    draws = torch.distributions.Multinomial(500, generated).sample((4000,)) / 500
    found = torch.stack([functional.class_mismatch(true, d) for d in draws])
    assert_allclose(_standard_error(true, generated, 500), found.std().item(), rtol=0.1)


def test_mismatch_refuses_what_it_cannot_learn_on() -> None:
    estimator = ClassMismatch(Generator([1] * 4), 4)
    x, labels = torch.rand(20, 4), torch.zeros(20, dtype=torch.long)
    with pytest.raises(ConfigError, match=r"has not been trained; call prepare\(batches\)"):
        estimator(model(1.0), batches_of(x, labels))
    with pytest.raises(ConfigError, match="the data have no labels"):
        estimator.prepare(batches_of(x))
    with pytest.raises(ConfigError, match="needs two classes or more, found 1"):
        estimator.prepare(batches_of(x, labels))


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (DataSpec((4,), "real"), "have no labels"),
        (DataSpec((4,), "tokens", classes=2, vocabulary_size=5), "are tokens"),
    ],
)
def test_mismatch_is_refused_before_training(data: DataSpec, found: str) -> None:
    with pytest.raises(ConfigError, match=rf"evaluation.estimators \(infovae.class_mismatch\): .*but the data {found}"):
        ClassMismatchConfig().build(BuildContext(data, (3,)))


def test_mismatch_takes_any_sampler() -> None:
    config = ClassMismatchConfig(sampler={"type": "infovae.markov_chain", "burn_in": 5}, max_train=10)
    built = config.build(CONTEXT)
    assert built.sampler.burn_in == 5
    assert built.max_train == 10
    labels = classes([5] * CLASSES)
    built.prepare(batches_of(images(labels), labels))
    assert built.true is not None
    assert_allclose(built.true, [0.5, 0.5], rtol=1e-12)
