"""Latent clipping: inside, outside and at zero; in a posterior, and what reads it."""

from __future__ import annotations

import math

import pytest
import torch
from uncollapse.config import BuildContext
from uncollapse.errors import ConfigError
from uncollapse.posteriors import GaussianPosterior, GaussianPosteriorConfig
from uncollapse.protocols import DataSpec, Progress
from uncollapse_kit import assert_conforms
from uncollapse_muvae import LatentClipping, LatentClippingConfig

CONTEXT = BuildContext(DataSpec((1, 4, 4), "binary"), latent_shape=(5,), feature_shape=(12,))


def test_inside_not_a_bit_changes() -> None:
    mean = torch.randn(100, 10)
    assert mean.norm(dim=1).max() < 3 * math.sqrt(10)
    found, _ = LatentClipping(3.0)(mean, torch.zeros_like(mean))
    assert torch.equal(found, mean)


def test_each_example_by_itself() -> None:
    """A limit on the whole batch's length, or on single numbers, would change the short one."""
    mean = torch.tensor([[300.0, 400.0], [4.0, 0.5]])
    found, _ = LatentClipping(3.0)(mean, torch.zeros(2, 2))
    limit = 3 * math.sqrt(2)
    torch.testing.assert_close(found, torch.tensor([[0.6 * limit, 0.8 * limit], [4.0, 0.5]]))


def test_gradient_outside_has_no_radial_part_and_at_zero_there_is_one() -> None:
    mean = torch.cat((torch.randn(4, 3, dtype=torch.float64) * 50, torch.zeros(1, 3, dtype=torch.float64)))
    mean.requires_grad_()
    found, _ = LatentClipping(1.0)(mean, torch.zeros_like(mean))
    weights = torch.randn(5, 3, dtype=torch.float64)
    (grad,) = torch.autograd.grad((weights * found).sum(), mean)
    radial = (grad * mean.detach()).sum(1)[:4]
    torch.testing.assert_close(radial, torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-12)
    assert grad[:4].norm() > 0
    assert torch.equal(grad[4], weights[4])


def test_length_counts_all_numbers_of_a_spatial_latent() -> None:
    mean = 100 * torch.randn(6, 2, 3, 3)
    found, _ = LatentClipping(3.0)(mean, torch.zeros_like(mean))
    torch.testing.assert_close(found.flatten(1).norm(dim=1), torch.full((6,), 3 * math.sqrt(18)))


def test_the_posterior_is_the_clipped_one_in_training_and_at_the_end() -> None:
    config = GaussianPosteriorConfig(latent_dim=5, moments=(LatentClippingConfig(c=0.1),))
    posterior = config.build(CONTEXT)
    assert isinstance(posterior, GaussianPosterior)
    h = 50 * torch.randn(8, 12)
    for progress in (Progress(), Progress.at_end()):
        torch.testing.assert_close(posterior(h, progress).mean.norm(dim=1), torch.full((8,), 0.1 * math.sqrt(5)))
    free = GaussianPosterior((12,), (5,))
    free.load_state_dict(posterior.state_dict())
    torch.testing.assert_close(posterior(h).logvar, free(h).logvar)


@pytest.mark.parametrize("c", [0.0, -1.0])
def test_impossible_limit(c: float) -> None:
    with pytest.raises(ConfigError, match=r"muvae\.latent_clipping: c must be positive"):
        LatentClipping(c)
    with pytest.raises(ValueError, match="c"):
        LatentClippingConfig(c=c)


@pytest.mark.parametrize("c", [3.0, 0.1])
def test_conforms(c: float) -> None:
    assert_conforms(LatentClippingConfig(c=c))
