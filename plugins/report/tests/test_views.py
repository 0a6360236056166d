from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform
from uncollapse.data.splits import InMemorySource, TensorSplit
from uncollapse.distributions import DiagonalNormal, standard_normal
from uncollapse.model import LatentVariableModel
from uncollapse.protocols import Support
from uncollapse_report.views import collect_views


@dataclass(frozen=True)
class Built:
    data: InMemorySource
    model: LatentVariableModel


class Halves(nn.Module):
    """Posterior whose moments are the two halves of the features, times ``scale``."""

    def __init__(self, size: int, scale: float = 1.0) -> None:
        super().__init__()
        self.latent_shape = (size,)
        self.scale = scale

    def forward(self, h: Tensor, progress: object = None) -> Distribution:
        mean, logvar = h.chunk(2, dim=-1)
        return DiagonalNormal(self.scale * mean, self.scale * logvar)


class Squashed(Halves):
    """The same under a transform: no mean in closed form, no Gaussian."""

    def forward(self, h: Tensor, progress: object = None) -> Distribution:
        base = super().forward(h)
        normal = Independent(Normal(base.mean, base.variance.sqrt()), 1)
        return TransformedDistribution(normal, [TanhTransform()])


class StandardNormal(nn.Module):
    def __init__(self, size: int, mean: float = 0.0, std: float = 1.0) -> None:
        super().__init__()
        self.size, self.mean, self.std = size, mean, std

    def forward(self) -> Distribution:
        moments = torch.full((self.size,), self.mean), torch.full((self.size,), self.std).square().log()
        return DiagonalNormal(*moments)


class Sampled(Distribution):
    """Images without a mean in closed form, which counts its draws."""

    calls = 0

    def __init__(self, values: Tensor) -> None:
        super().__init__(values.shape[:-3], values.shape[-3:], validate_args=False)
        self.values = values

    def sample(self, sample_shape: object = ()) -> Tensor:
        Sampled.calls += 1
        return torch.bernoulli(self.values.sigmoid())


class Painter(nn.Module):
    """Decoder: a linear map of z to an image."""

    def __init__(self, size: int, shape: tuple[int, ...], closed_form: bool = True) -> None:
        super().__init__()
        self.linear, self.shape, self.closed_form = nn.Linear(size, int(np.prod(shape))), shape, closed_form
        self.batches: list[int] = []

    def forward(self, z: Tensor) -> Distribution:
        self.batches.append(len(z))
        values = self.linear(z).unflatten(-1, self.shape)
        return (
            DiagonalNormal(values, torch.zeros_like(values), len(self.shape)) if self.closed_form else Sampled(values)
        )


def built(
    shape: tuple[int, ...] = (1, 6, 6), size: int = 5, *, count: int = 40, support: Support = "unit_interval",
    posterior: nn.Module | None = None, prior: nn.Module | None = None, closed_form: bool = True, labels: bool = True,
) -> Built:  # fmt: skip
    torch.manual_seed(1)
    x = torch.rand(count, *shape)
    split = TensorSplit(x, torch.arange(count) * 4 // count if labels else None, support=support)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 2 * size))
    painter = Painter(size, shape, closed_form)
    model = LatentVariableModel(encoder, posterior or Halves(size), prior or StandardNormal(size), painter)
    return Built(InMemorySource(split, split, split, ("a", "b", "c", "d") if labels else ()), model)


def test_pictures_have_the_promised_numbers_and_cost_one_call() -> None:
    example = built()
    pictures = collect_views(example, "test", 0).pictures
    assert pictures is not None
    assert example.model.decoder.batches == [8 + 16 + 3 * 7]
    assert pictures.originals.shape == pictures.samples.shape == (8, 6, 6, 1)
    assert pictures.means is not None
    assert pictures.means.shape == (8, 6, 6, 1)
    assert pictures.prior.shape == (16, 6, 6, 1)
    assert pictures.traversals.shape == (3, 7, 6, 6, 1)
    assert pictures.positions.tolist() == [-3, -2, -1, 0, 1, 2, 3]
    assert pictures.show_means


def test_originals_are_spread_over_the_split() -> None:
    example = built(count=1203)
    views = collect_views(example, "test", 0)
    assert views.pictures is not None
    assert views.latent_map is not None
    every = next(example.data.test.batches(1203)).x.movedim(1, -1).numpy()
    shown = np.round(every[[0, -1]] * 255).astype(np.uint8)
    np.testing.assert_array_equal(views.pictures.originals[[0, -1]], shown)
    assert views.latent_map.labels is not None
    assert np.bincount(views.latent_map.labels).tolist() == [250, 250, 251, 249]
    assert views.latent_map.names == ("a", "b", "c", "d")


def test_the_same_seed_gives_the_same_views_and_leaves_the_random_state_alone() -> None:
    example = built()
    example.model.train()
    state = torch.get_rng_state()
    first, again, other = (collect_views(example, "test", seed).pictures for seed in (3, 3, 4))
    assert first is not None
    assert again is not None
    assert other is not None
    np.testing.assert_array_equal(first.samples, again.samples)
    assert (first.samples != other.samples).any()
    assert torch.equal(torch.get_rng_state(), state)
    assert example.model.training


def test_a_decoder_without_a_mean_shows_samples() -> None:
    Sampled.calls = 0
    pictures = collect_views(built(closed_form=False), "test", 0).pictures
    assert pictures is not None
    assert Sampled.calls == 1
    assert pictures.means is None
    assert not pictures.show_means
    assert set(np.unique(pictures.prior)) == {0, 255}


def test_traversals_move_one_dimension_in_standard_deviations_of_the_prior() -> None:
    example = built(prior=StandardNormal(5, mean=0.5, std=2.0), support="real")
    seen: list[Tensor] = []
    example.model.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    views = collect_views(example, "test", 0)
    assert views.pictures is not None
    assert views.kl_per_dimension is not None
    grid = seen[0][24:].reshape(3, 7, 5)
    assert list(views.pictures.traversed) == np.argsort(-views.kl_per_dimension)[:3].tolist()
    code = example.model.infer(next(example.data.test.batches(1)).x).mean[0]
    for row, dimension in enumerate(views.pictures.traversed):
        torch.testing.assert_close(grid[row, :, dimension], 0.5 + 2.0 * torch.arange(-3.0, 4.0))
        others = [d for d in range(5) if d != dimension]
        torch.testing.assert_close(grid[row][:, others], code[others].expand(7, 4))


def test_kl_per_dimension_is_the_mean_over_examples() -> None:
    example = built()
    kl = collect_views(example, "test", 0).kl_per_dimension
    q = example.model.infer(next(example.data.test.batches(40)).x)
    normal = torch.distributions.Normal(q.mean, q.variance.sqrt())
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).mean(0)
    assert kl is not None
    np.testing.assert_allclose(kl, expected.detach().numpy(), rtol=1e-5)


def test_a_posterior_that_is_no_gaussian_has_codes_but_no_kl_per_dimension() -> None:
    views = collect_views(built(posterior=Squashed(5)), "test", 0)
    assert views.kl_per_dimension is None
    assert "not a diagonal Gaussian" in views.omitted["kl"]
    assert views.latent_map is not None
    assert views.pictures is not None


def test_a_collapsed_model_is_one_point_without_a_warning() -> None:
    latent_map = collect_views(built(posterior=Halves(5, scale=0.0)), "test", 0).latent_map
    assert latent_map is not None
    assert not latent_map.points.any()
    assert "the same point" in latent_map.method


@pytest.mark.parametrize(("size", "axis"), [(1, "z0"), (2, "z0"), (3, "PC 1 (")])
def test_the_plane_suits_the_latent(size: int, axis: str) -> None:
    example = built(size=size)
    latent_map = collect_views(example, "test", 0).latent_map
    assert latent_map is not None
    assert latent_map.axes[0].startswith(axis)
    assert latent_map.points.shape == (40, 2)
    codes = example.model.infer(next(example.data.test.batches(40)).x).mean.detach().numpy()
    if size <= 2:
        np.testing.assert_allclose(latent_map.points[:, 0], codes[:, 0], rtol=1e-5)
    else:
        shares = np.linalg.eigvalsh(np.cov(codes.T, ddof=0))[::-1]
        np.testing.assert_allclose(latent_map.points.var(axis=0), shares[:2], rtol=1e-4)


@pytest.mark.parametrize(
    ("shape", "support", "why"), [((7,), "real", "arrays of 7 values"), ((2, 6, 6), "real", "arrays of 2 × 6 × 6")]
)
def test_data_that_are_no_images_are_left_out_with_the_reason(
    shape: tuple[int, ...], support: Support, why: str
) -> None:
    views = collect_views(built(shape, support=support, labels=False), "test", 0)
    assert views.pictures is None
    assert why in views.omitted["pictures"]
    assert views.latent_map is not None
    assert views.latent_map.labels is None


def test_codes_that_are_not_numbers_are_said_to_be_so() -> None:
    views = collect_views(built((7,), posterior=Halves(5, scale=float("nan"))), "test", 0)
    assert views.latent_map is None
    assert "not numbers" in views.omitted["latents"]


def test_latents_of_any_shape_are_flattened() -> None:
    class Plane(Halves):
        def forward(self, h: Tensor, progress: object = None) -> Distribution:
            mean, logvar = (part.view(-1, 2, 2) for part in h.chunk(2, dim=-1))
            return DiagonalNormal(mean, logvar, event_dim=2)

    class PlanePrior(nn.Module):
        def forward(self) -> Distribution:
            return standard_normal((2, 2))

    example = built(size=4, posterior=Plane(4), prior=PlanePrior())
    seen: list[tuple[int, ...]] = []

    def flatten(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        seen.append(tuple(inputs[0].shape))
        return (inputs[0].flatten(-2),)

    example.model.decoder.register_forward_pre_hook(flatten)
    views = collect_views(example, "test", 0)
    assert seen == [(45, 2, 2)]
    assert views.kl_per_dimension is not None
    assert views.kl_per_dimension.shape == (4,)
