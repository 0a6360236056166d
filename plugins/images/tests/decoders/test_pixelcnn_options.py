"""Presets, long skips, normalizations and wrong fields of the PixelCNN decoders."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pixel_reference import KINDS, build
from pydantic import ValidationError
from torch import nn
from torch.nn.functional import elu
from uncollapse.config import BuildContext
from uncollapse.errors import ConfigError, ShapeError
from uncollapse.protocols import DataSpec
from uncollapse_images.decoders.gated_pixelcnn import GatedPixelCNNDecoderConfig
from uncollapse_images.decoders.pixelcnn import PixelCNNDecoderConfig

CONFIGS = {"masked": PixelCNNDecoderConfig, "gated": GatedPixelCNNDecoderConfig}
MNIST = BuildContext(DataSpec((1, 28, 28), "binary"), latent_shape=(32,))


def of(kind: str = "masked", event: tuple[int, ...] = (3, 8, 8), support: Any = "bytes", **fields: Any) -> Any:
    return CONFIGS[kind].model_validate(fields).build(BuildContext(DataSpec(event, support), latent_shape=(4,)))


@pytest.mark.parametrize("layers", [3, 4, 6])
def test_long_skips_lead_to_the_third_layer_after(layers: int) -> None:
    kernels = (5, 3, 3, 5, 1, 3)[:layers]
    network = build("masked", (1, 6, 6), kernels=kernels, long_skips=True, normalization="weight").network
    assert [s.masked.kernel_size[0] for s in network.skips] == list(kernels[1:-1])
    x, z = torch.rand(3, 1, 6, 6).double(), torch.randn(3, 2).double()
    outputs = [elu(network.first(x, latent=z))]
    inputs = {}
    for i in range(1, layers + 1):
        inputs[i] = outputs[i - 1]
        if i >= 3:
            inputs[i] = inputs[i] + network.skips[i - 3](outputs[i - 3], z)
        if i < layers:
            outputs.append(network.blocks[i - 1](inputs[i], z))
    torch.testing.assert_close(network(x, z[..., None, None]), network.head(inputs[layers]))


def test_a_block_computes_its_formula() -> None:
    block, norms = (n := build("masked", (1, 6, 6), normalization="batch").network).blocks[0], n.blocks[0].norms
    h, z = torch.randn(3, 6, 6, 6).double(), torch.randn(3, 2).double()
    inner = elu(norms[1](block.masked(elu(norms[0](block.reduce(h))), latent=z)))
    torch.testing.assert_close(block(h, z), elu(norms[2](block.restore(inner)) + h))


def test_the_small_preset_is_mae_s() -> None:
    decoder = PixelCNNDecoderConfig(preset="small").build(MNIST)
    network = decoder.network
    assert network.first.kernel_size[0] == 7
    assert [b.masked.kernel_size[0] for b in network.blocks] == [7, 7, 5, 5, 3, 3]
    assert [s.masked.kernel_size[0] for s in network.skips] == [7, 7, 5, 5, 3]
    assert (network.first.visible_channels, network.first.out_channels, network.blocks[0].reduce.out_channels) == (
        4,
        64,
        32,
    )
    assert network.condition.activation == "elu"
    normalized = [m for m in decoder.modules() if nn.utils.parametrize.is_parametrized(m)]
    assert len(normalized) == 1 + 1 + 3 * 11 + 2


def test_du_vae_s_decoder_is_the_large_one_with_batch_normalization() -> None:
    config = PixelCNNDecoderConfig(preset="large", normalization="batch", maps_activation="none")
    decoder = config.build(MNIST)
    kernels = [7] * 5 + [5] * 4 + [3] * 4
    assert [decoder.network.first.kernel_size[0], *(b.masked.kernel_size[0] for b in decoder.network.blocks)] == kernels
    assert len(decoder.network.skips) == 11
    assert sum(isinstance(m, nn.BatchNorm2d) for m in decoder.modules()) == 1 + 3 * 23 + 1
    biased = [n for n, m in decoder.named_modules() if isinstance(m, nn.Conv2d) and m.bias is not None]
    assert biased == []
    z = torch.randn(5, 32)
    maps = decoder.network.condition(z)
    assert torch.equal(maps, decoder.network.condition.linear(z).view(5, 4, 28, 28))
    assert decoder(z).log_prob(torch.rand(5, 1, 28, 28).round()).isfinite().all()


def test_fields_beside_a_preset_replace_its_own_and_configs_survive_json() -> None:
    config = PixelCNNDecoderConfig.model_validate({"preset": "small", "kernels": [5, 3, 3], "channels": 8})
    assert (config.kernels, config.channels, config.hidden, config.long_skips) == ((5, 3, 3), 8, 32, True)
    for each in (config, PixelCNNDecoderConfig(weight_norm=True), GatedPixelCNNDecoderConfig(condition="horizontal")):
        assert type(each).model_validate_json(each.model_dump_json()) == each


def test_weight_norm_is_the_older_name() -> None:
    config = PixelCNNDecoderConfig.model_validate({"weight_norm": True})
    assert config.normalization == "weight"
    assert PixelCNNDecoderConfig.model_validate({"weight_norm": False}).normalization == "none"
    assert (
        config.build(MNIST).state_dict().keys()
        == PixelCNNDecoderConfig(normalization="weight").build(MNIST).state_dict().keys()
    )


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (
            "masked",
            {"weight_norm": True, "normalization": "batch"},
            "weight_norm: true means normalization: weight, found",
        ),
        (
            "masked",
            {"long_skips": True, "kernels": [3, 3]},
            "lead from a layer to the third one after it, found 2 kernels",
        ),
        ("masked", {"preset": "huge"}, "'small' or 'large'"),
        ("masked", {"normalization": "layer"}, "'none', 'weight' or 'batch'"),
        ("masked", {"channel_order": "rgb"}, "'joint', 'ascending' or 'descending'"),
        ("gated", {"kernels": [7, 4]}, "must be odd .* found 4 in .*; try 3 or 5"),
        ("gated", {"kernels": [1, 3]}, "first kernel must be at least 3, found 1"),
        ("gated", {"condition": "vertical"}, "'both' or 'horizontal'"),
        ("gated", {"head": 0}, "greater than 0"),
        ("gated", {"hidden": 3}, "Extra inputs are not permitted"),
    ],
)
def test_wrong_fields_are_explained(kind: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CONFIGS[kind].model_validate(fields)


@pytest.mark.parametrize("kind", KINDS)
def test_channels_that_are_coupled_twice_are_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.decoder\.channel_order: LogisticMixtureLikelihood couples .* joint"):
        of(kind, channel_order="ascending", likelihood={"type": "logistic_mixture"})
    grey = of(kind, (1, 8, 8), channels=2, channel_order="ascending", likelihood={"type": "categorical"})
    assert grey.network.channel_order is None


@pytest.mark.parametrize("kind", KINDS)
def test_layers_too_narrow_for_the_channels_are_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match=r"each of the data's 3 channels, found a layer of 2; use wider layers"):
        of(kind, channel_order="descending", channels=2, likelihood={"type": "categorical"})


@pytest.mark.parametrize("kind", KINDS)
def test_data_and_latents_of_another_shape_are_refused(kind: str) -> None:
    with pytest.raises(
        ShapeError, match=r"model.decoder: a \w*pixelcnn decodes images of shape \(C, H, W\), found .*\(7,\)"
    ):
        of(kind, (7,), "binary")
    decoder = of(kind, (3, 8, 8), "binary", channels=6, kernels=[3, 3])
    for z in (torch.randn(5, 3), torch.randn(4, 1), torch.randn(())):
        with pytest.raises(ShapeError, match=r"model.decoder: it was built for latents of shape \(4,\), found"):
            decoder(z)
    for event in ((1, 8, 8), (3, 8, 9), (8, 8)):
        with pytest.raises(ShapeError, match=r"model.decoder: it was built for data of shape \(3, 8, 8\), found"):
            decoder(torch.randn(5, 4)).log_prob(torch.zeros(5, *event))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", ["joint", "ascending"])
def test_every_live_weight_gets_a_gradient(kind: str, order: str) -> None:
    decoder = build(kind, (3, 6, 6), channels=9, kernels=(5, 3), normalization="weight", channel_order=order)
    decoder(torch.randn(2, 5, 2).double()).log_prob(torch.rand(5, 3, 6, 6).double().round()).sum().backward()
    masks = {n: m.live for n, m in decoder.named_modules() if getattr(m, "live", None) is not None}
    assert bool(masks) == (order == "ascending")
    for name, parameter in decoder.named_parameters():
        layer, _, what = name.partition(".parametrizations.weight.")
        live = masks.get(layer) if what == "original1" else None
        expected = torch.ones_like(parameter, dtype=torch.bool) if live is None else live
        assert torch.equal(parameter.grad != 0, expected), name
