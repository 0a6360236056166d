"""Traversals: which latents the decoder is given, and how many there are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from uncollapse.config import BuildContext
from uncollapse.distributions import DiagonalNormal
from uncollapse.errors import ConfigError
from uncollapse.model import LatentVariableModel
from uncollapse.protocols import DataSpec
from uncollapse_kit import assert_conforms, reference_model
from uncollapse_muvae import TraversalSampler, TraversalSamplerConfig


class Identity(nn.Module):
    """A decoder whose mean is the latent."""

    def forward(self, z: Tensor) -> DiagonalNormal:
        return DiagonalNormal(z, torch.zeros_like(z), event_dim=z.dim() - 1)


def model(shape: tuple[int, ...]) -> LatentVariableModel:
    found = reference_model(BuildContext(DataSpec(shape, "real"), latent_shape=shape, feature_shape=(6,)))
    found.decoder = Identity()
    return found


@pytest.mark.parametrize("limit", [2.0, 10.0, 20.0])
def test_one_dimension_after_the_other(limit: float) -> None:
    z = TraversalSampler(limit, means=True)(model((3,)), 120).view(3, 40, 3)
    expected = torch.zeros(3, 40, 3)
    for d in range(3):
        expected[d, :, d] = torch.linspace(-limit, limit, 40)
    torch.testing.assert_close(z, expected)


def test_part_of_the_sweeps_and_spatial_latents() -> None:
    z = TraversalSampler(1.0, steps=3, means=True, max_batch=2)(model((1, 2, 2)), 5)
    expected = torch.tensor([[-1.0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 0]])
    torch.testing.assert_close(z.flatten(1), expected)


def test_more_than_there_are() -> None:
    with pytest.raises(ConfigError, match=r"121 samples were asked for, but 3 latent dimensions of 40 steps make 120"):
        TraversalSampler()(model((3,)), 121)


@pytest.mark.parametrize(("limit", "steps"), [(0.0, 40), (1.0, 1)])
def test_impossible_sweeps(limit: float, steps: int) -> None:
    with pytest.raises(ConfigError, match="limit must be positive and steps at least 2"):
        TraversalSampler(limit, steps)
    with pytest.raises(ValueError, match=r"limit|steps"):
        TraversalSamplerConfig(limit=limit, steps=steps)


def test_conforms() -> None:
    assert_conforms(TraversalSamplerConfig())
