"""The two-level posterior against its formula, and what it is built from."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal
from torch.testing import assert_close
from uncollapse.capabilities import supports
from uncollapse.config import BuildContext
from uncollapse.plugins import registry
from uncollapse.protocols import DataSpec, Hierarchical
from uncollapse_kit.density import expect_unit_mass, first_of
from uncollapse_latents.distributions import TwoLevelNormal
from uncollapse_latents.posteriors import TwoLevelPosterior

B, H, D1, D2 = 3, 6, 2, 3
DOUBLE = torch.float64


def posterior(feature_shape: tuple[int, ...] = (H,), **fields: object) -> TwoLevelPosterior:
    torch.manual_seed(0)
    return TwoLevelPosterior(feature_shape, D1, D2, hidden=5, **fields).double()


def features(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)


def gated(layer: nn.Linear, x: Tensor) -> Tensor:
    (w, v), (b, c) = layer.weight.chunk(2), layer.bias.chunk(2)
    return (x @ w.T + b) * torch.sigmoid(x @ v.T + c)


def normal(head: nn.Linear, x: Tensor, limits: tuple[float, float] = (-6, 2)) -> Independent:
    mean, logvar = (x @ head.weight.T + head.bias).chunk(2, -1)
    return Independent(Normal(mean, (0.5 * logvar.clamp(*limits)).exp()), 1)


def density(made: TwoLevelPosterior, top: Tensor, bottom: Tensor, z: Tensor) -> Tensor:
    """``log q(z2|x) + log q(z1|x, z2)`` of features for each level, with inputs laid side by side."""
    z1, z2 = z[..., :D1], z[..., D1:]
    joint = gated(made.joint, torch.cat([bottom.expand(*z.shape[:-1], -1), gated(made.of_top, z2)], -1))
    return normal(made.top_head, top).log_prob(z2) + normal(made.bottom_head, joint).log_prob(z1)


@pytest.mark.parametrize("towers", [False, True])
def test_density(towers: bool) -> None:
    made = posterior((2, H) if towers else (H,))
    h = features(B, 2, H) if towers else features(B, H)
    top, bottom = (h[:, 0], h[:, 1]) if towers else (h, h)
    q = made(h)
    assert isinstance(q, TwoLevelNormal)
    z = torch.randn(4, B, D1 + D2, dtype=DOUBLE)
    assert_close(q.log_prob(z), density(made, top, bottom, z), rtol=1e-10, atol=1e-10)
    # Each sample with each posterior, as the mutual information asks for them.
    pairs = z[:, 0].unsqueeze(1).expand(-1, B, -1)
    assert_close(q.log_prob(pairs), density(made, top, bottom, pairs), rtol=1e-10, atol=1e-10)


def test_the_top_level_alone() -> None:
    made, h = posterior((2, H)), features(B, 2, H)
    assert supports(made, Hierarchical)
    z2 = torch.randn(B, D2, dtype=DOUBLE)
    expected = normal(made.top_head, h[:, 0]).log_prob(z2)
    for given in (h, h[:, :1]):
        assert_close(made.top(given).log_prob(z2), expected)
    assert_close(made(h).top.log_prob(z2), expected)


def test_features_of_any_shape_are_flattened() -> None:
    made, h = posterior((3, 2, 1)), features(B, 3, 2, 1)
    z = torch.randn(B, D1 + D2, dtype=DOUBLE)
    assert_close(made(h).log_prob(z), made(h.flatten(1)).log_prob(z))


def test_unit_mass_of_one_dimension_a_level() -> None:
    torch.manual_seed(0)
    made = TwoLevelPosterior((H,), 1, 1, hidden=5).double()
    expect_unit_mass(first_of(made(features(1, H))), "q(z|x)")


def test_sizes_are_those_of_the_released_model() -> None:
    """294 features a level: heads on the features, gated layers 40 -> 294 and 588 -> 300, heads on 300."""
    made = TwoLevelPosterior((2, 294))
    assert made.latent_shape == (80,)
    assert made.top_head.weight.shape == (2 * 40, 294)
    assert made.of_top.weight.shape == (2 * 294, 40)
    assert made.joint.weight.shape == (2 * 300, 588)
    assert made.bottom_head.weight.shape == (2 * 40, 300)


def test_config() -> None:
    found = registry().find("posterior", "two_level")
    assert found is not None
    config = found.model_validate({"bottom_dim": 5, "top_dim": 3, "logvar_range": None, "top_features": 7})
    assert (config.latent_shape, config.latent_levels) == ((8,), (5, 3))
    made = config.build(BuildContext(DataSpec((4,), "real"), (8,), (2, 6)))
    assert made.towers
    assert made.of_top.weight.shape == (14, 3)
    assert made.top_head.logvar_range is None
    plain = registry().find("posterior", "gaussian")
    assert plain is not None
    assert plain.model_validate({"latent_dim": 3}).latent_levels == ()
