"""Gated-convolutional encoders: the released sizes, the formula, and what does not fit."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close
from uncollapse.config import BuildContext
from uncollapse.errors import ConfigError, ShapeError
from uncollapse.plugins import registry
from uncollapse.protocols import DataSpec
from uncollapse_images.encoders import GatedConvEncoder, Tower, TwoTowerConvEncoder

# h_size in VampPrior's released code, by the size of the images.
RELEASED = [((1, 28, 28), 294), ((1, 28, 20), 210), ((3, 32, 32), 384)]


def by_hand(net, x):
    for layer in list(net)[:-1]:
        (w, v), (b, c) = layer.weight.chunk(2), layer.bias.chunk(2)
        padding = (w.shape[-1] - 1) // 2
        plain, gate = (functional.conv2d(x, k, a, layer.stride, padding) for k, a in ((w, b), (v, c)))
        x = plain * torch.sigmoid(gate)
    return x.flatten(1)


@pytest.mark.parametrize(("shape", "features"), RELEASED)
def test_features_of_the_released_sizes(shape, features):
    encoder = GatedConvEncoder(shape)
    assert encoder.feature_shape == (features,)
    both = TwoTowerConvEncoder(shape)
    assert both.feature_shape == (2, features)
    kernels = [[layer.kernel_size[0] for layer in list(t)[:-1]] for t in (both.top_tower, both.bottom_tower)]
    assert kernels == [[7, 3, 5, 3, 3], [3, 3, 3, 3, 3]]
    x = torch.rand(2, *shape)
    with torch.no_grad():
        assert encoder(x).shape == (2, features)
        assert both(x).shape == (2, 2, features)


def test_features_are_those_of_the_formula():
    encoder = GatedConvEncoder((1, 9, 7), (3, 2), (5, 3), (1, 2)).double()
    x = torch.rand(4, 1, 9, 7, dtype=torch.float64)
    assert_close(encoder(x), by_hand(encoder.net, x))


def test_each_level_has_its_own_tower():
    encoder = TwoTowerConvEncoder((1, 8, 8), Tower(channels=(3, 2), stride=2), Tower(channels=(2,), stride=4)).double()
    x = torch.rand(4, 1, 8, 8, dtype=torch.float64)
    h = encoder(x)
    assert_close(h[:, 0], by_hand(encoder.top_tower, x))
    assert_close(h[:, 1], by_hand(encoder.bottom_tower, x))
    assert_close(encoder.top(x), h[:, :1])


def test_towers_must_agree():
    with pytest.raises(ConfigError, match=r"model\.encoder: the top level's tower puts out 8 features, .*'s 32; make"):
        TwoTowerConvEncoder((1, 8, 8), Tower(channels=(2,), stride=4), Tower(channels=(2,), stride=2))


@pytest.mark.parametrize("name", ["gated_conv", "hvae_conv"])
def test_only_images_have_convolutions(name):
    config = registry().find("encoder", name)()
    with pytest.raises(ShapeError, match=r"model\.encoder: convolutions need images"):
        config.build(BuildContext(DataSpec((6,), "real")))


@pytest.mark.parametrize(
    ("name", "fields", "place"),
    [
        ("gated_conv", {"channels": [4, 4]}, "kernel_size"),
        ("gated_conv", {"channels": [4, 4], "kernel_size": 3}, "stride"),
        ("hvae_conv", {"top": {"channels": [4], "stride": 1, "kernel_size": [3, 3]}}, "kernel_size"),
    ],
)
def test_numbers_of_layers_must_agree(name, fields, place):
    with pytest.raises((ConfigError, ValueError), match=rf"{place}: found \d values"):
        registry().find("encoder", name).model_validate(fields)
