"""The synthetic mixtures and the projected images as data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from numpy.testing import assert_allclose
from uncollapse.config import BuildContext
from uncollapse.errors import ConfigError
from uncollapse.protocols import Batch, DataSpec
from uncollapse_mim import FixedMixtureConfig, MixtureDataConfig, PCAFashionMNISTConfig, ring
from uncollapse_mim.pca import random_affine


def whole(split: Any, **arguments: Any) -> Batch:
    (batch,) = split.batches(len(split), **arguments)
    return batch


def test_points_lie_where_the_layout_says() -> None:
    source = MixtureDataConfig().build(0)
    batch = whole(source.test)
    layout = ring()
    assert source.spec.classes == 5
    for k, (mean, std) in enumerate(zip(layout.means, layout.stds, strict=True)):
        members = batch.x[batch.labels == k]
        assert abs(len(members) - 2000) < 5 * 40
        assert_allclose(members.mean(0), mean, atol=0.03)
        assert_allclose(members.std(0), std, atol=0.02)


def test_spacing_and_width() -> None:
    released, even = ring(), ring(spacing="even")
    gap = torch.cdist(released.means[1:], released.means[1:])
    assert gap.max() > 1.9
    sides = torch.cdist(even.means[1:], even.means[1:]).sort(1).values[:, 1:3]
    assert_allclose(sides, 2**0.5, rtol=1e-6)
    assert ring(std=0.1).stds.unique().tolist() == pytest.approx([0.1])
    assert ring(4, origin=False).stds[0, 0].item() == pytest.approx(0.3125)


def test_training_points_are_fresh_in_every_epoch_and_held_out_ones_stay() -> None:
    source = MixtureDataConfig(train=100).build(3)
    first, again, second = (whole(source.train, epoch=e).x for e in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.isclose(first, second).any()
    assert torch.equal(whole(source.test, epoch=0).x, whole(source.test, epoch=1).x)
    fixed = MixtureDataConfig(train=100, fresh=False).build(3)
    assert torch.equal(whole(fixed.train, epoch=0).x, whole(fixed.train, epoch=1).x)


def test_held_out_points_do_not_depend_on_the_run_s_seed() -> None:
    one, other = (MixtureDataConfig().build(seed) for seed in (1, 2))
    for part in ("validation", "test"):
        assert torch.equal(whole(getattr(one, part)).x, whole(getattr(other, part)).x)
    assert not torch.equal(whole(one.train).x, whole(other.train).x)
    assert not torch.equal(whole(one.validation).x, whole(one.test).x)
    moved = MixtureDataConfig(split_seed=5).build(1)
    assert not torch.equal(whole(one.test).x, whole(moved.test).x)


def test_components_by_hand() -> None:
    config = MixtureDataConfig(
        dimensions=1, components=[{"mean": [-3.0], "std": 0.1, "weight": 3.0}, {"mean": [3.0], "std": 0.5}]
    )
    batch = whole(config.build(0).test)
    assert batch.labels.float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert batch.x[batch.labels == 0].std().item() == pytest.approx(0.1, abs=0.01)
    density = FixedMixtureConfig(components=config.components).build(BuildContext(DataSpec((1,), "real"), (1,)))()
    grid = torch.linspace(-6, 6, 4001)[:, None]
    assert density.log_prob(grid).exp().sum().item() * 0.003 == pytest.approx(1.0, abs=1e-3)
    assert density.log_prob(torch.tensor([-3.0])).exp().item() == pytest.approx(0.75 / (0.1 * (2 * torch.pi) ** 0.5))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"components": [{"mean": [0.0]}], "ring": 5}, "leave out ring"),
        ({"components": [{"mean": [0.0]}, {"mean": [0.0, 1.0]}]}, "means must have the same length, found 1, 2"),
        ({"components": []}, "components"),
        ({"std": 0.0}, "std"),
    ],
)
def test_refuses(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        MixtureDataConfig(**wrong)


def test_means_have_the_data_s_dimensions() -> None:
    with pytest.raises(ConfigError, match=r"data.components: means have 1 numbers, but the mixture lies in 2"):
        MixtureDataConfig(components=[{"mean": [0.0]}]).build(0)


# ------------------------------------------------------------------------------------------------------------- images


@pytest.fixture(scope="module")
def images(shared_data: Path) -> Any:
    def build(**fields: Any) -> Any:
        config = PCAFashionMNISTConfig(
            root=str(shared_data), limit=1500, validation=500, components=5, **fields
        )  # fmt: skip
        return config.build(0)

    return build


def test_projection_is_fitted_to_the_training_images_alone(images: Any, shared_data: Path) -> None:
    source = images()
    assert len(source.train) == 1500
    # All of the data set, or all of the small sample: as many as the file says.
    header = (shared_data / "FashionMNIST/raw/t10k-images-idx3-ubyte").read_bytes()[4:8]
    assert len(source.test) == int.from_bytes(header)
    assert source.spec.event_shape == (5,)
    train, test = whole(source.train).x, whole(source.test).x
    assert_allclose(train.mean(0), 0, atol=1e-4)
    covariance = torch.cov(train.T)
    assert_allclose(covariance - covariance.diag().diag(), 0, atol=2e-3)
    assert (covariance.diag().diff() < 0).all()
    # The same basis elsewhere: no other split is centred or decorrelated.
    assert test.mean(0).abs().max() > 0.01
    assert 0.5 < source.explained_variance < 0.8


def test_released_fit_gives_every_split_a_basis_of_its_own(images: Any) -> None:
    ours, released = images(), images(fit="per_split")
    assert torch.equal(whole(ours.train).x, whole(released.train).x)
    test = whole(released.test).x
    assert_allclose(test.mean(0), 0, atol=1e-3)
    assert not torch.allclose(whole(ours.test).x, test, atol=0.05)


def test_augmentation_changes_half_of_the_training_images_anew_in_every_epoch(images: Any) -> None:
    plain, source = images(), images(augment=True)
    original, first, second = whole(plain.train).x, whole(source.train, epoch=0).x, whole(source.train, epoch=1).x
    kept = torch.isclose(original, first, atol=1e-4).all(1).float().mean().item()
    assert kept == pytest.approx(0.5, abs=0.05)
    assert not torch.allclose(first, second)
    assert torch.equal(first, whole(source.train, epoch=0).x)
    assert torch.equal(whole(plain.test).x, whole(source.test).x)


def test_dequantization_is_small_and_leaves_the_test_images_alone(images: Any) -> None:
    plain, source = images(), images(dequantize=True)
    change = (whole(plain.train).x - whole(source.train).x).abs()
    assert 0 < change.max() < 0.3
    assert torch.equal(whole(plain.test).x, whole(source.test).x)


def test_affine_maps_move_a_centred_square_as_little_as_they_say() -> None:
    image = torch.zeros(200, 1, 28, 28)
    image[:, :, 10:18, 10:18] = 1
    moved = random_affine(image, torch.Generator().manual_seed(0))
    area = moved.sum((1, 2, 3)) / 64
    assert 0.55 < area.min() < 0.75
    assert 1.3 < area.max() < 1.6
    position = torch.arange(28.0)
    centres = torch.stack([(moved.sum((1, 3)) * position).sum(1), (moved.sum((1, 2)) * position).sum(1)], 1)
    shift = centres / moved.sum((1, 2, 3))[:, None] - 13.5
    assert 2.0 < shift.abs().max() < 3.3
    assert shift.mean().abs() < 0.3
    again = random_affine(image, torch.Generator().manual_seed(0))
    assert torch.equal(moved, again)
