"""The gated PixelCNN: its formula, what it shares between latents of one image, and its initialization."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pixel_reference import KINDS, build
from torch import Tensor, nn
from torch.nn import functional
from uncollapse.capabilities import supports
from uncollapse.likelihoods import BernoulliLikelihood
from uncollapse.protocols import DataInitialized
from uncollapse_images.decoders import GatedPixelCNNDecoder

EVENT = (2, 5, 6)


def whole_kernel(conv: Any, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The k x k or 1 x k kernel of a stack's convolution, filled tap by tap, and the condition's weights."""
    weight, (rows, columns) = conv.weight.detach(), conv.kernel_size
    kernel = torch.zeros(len(weight), conv.in_channels, *size, dtype=weight.dtype)
    for channel in range(conv.in_channels):
        for row in range(rows):
            for column in range(columns):
                tap = channel * rows * columns + row * columns + column
                kernel[:, channel, row, column] = weight[:, tap]
    return kernel, weight[:, conv.in_channels * rows * columns :, None, None]


def by_the_formula(network: Any, x: Tensor, condition: Tensor) -> Tensor:
    """Eq. 4 and figure 2 with full kernels whose later taps are zero."""
    v = h = x
    for i, layer in enumerate(network.layers):
        k = layer.vertical.kernel_size[1]
        kernel, at_v = whole_kernel(layer.vertical, (k, k))
        # The first layer's kernel holds the rows above the centre, the others' the centre's row too.
        assert kernel[:, :, k // 2 + (i > 0) :].abs().max() == 0
        above = functional.conv2d(v, kernel, layer.vertical.bias, padding=k // 2)
        if at_v.shape[1]:
            above = above + functional.conv2d(condition, at_v)
        kernel, at_h = whole_kernel(layer.horizontal, (1, k))
        along = functional.conv2d(h, kernel, layer.horizontal.bias, padding=(0, k // 2)) + layer.link(above)
        along = along + functional.conv2d(condition, at_h)
        half = along.shape[1] // 2
        out = layer.out(torch.tanh(along[:, :half]) * torch.sigmoid(along[:, half:]))
        v, h = torch.tanh(above[:, :half]) * torch.sigmoid(above[:, half:]), out if i == 0 else h + out
    return network.outputs(torch.relu(network.hidden(torch.relu(h))))


@pytest.mark.parametrize("condition", ["both", "horizontal"])
@pytest.mark.parametrize("conditioning", ["bias", "maps"])
@pytest.mark.parametrize("normalization", ["none", "weight"])
def test_computes_the_formula(normalization: str, conditioning: str, condition: str) -> None:
    fields = {"conditioning": conditioning, "condition": condition, "normalization": normalization}
    network = build("gated", EVENT, kernels=(5, 3, 3), head=7, **fields).network
    x, known = torch.rand(3, *EVENT).double(), network.condition(torch.randn(3, 2).double())
    torch.testing.assert_close(network(x, known), by_the_formula(network, x, known))


def test_batch_normalization_is_of_every_convolution_s_output() -> None:
    decoder = build("gated", EVENT, normalization="batch")
    outputs: dict[str, Tensor] = {}
    norms = {n: m for n, m in decoder.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert len(norms) == 3 * 4 + 1
    for name, norm in norms.items():
        norm.register_forward_hook(lambda _, __, out, name=name: outputs.__setitem__(name, out.detach().clone()))
    decoder.train()(torch.randn(30, 2).double()).log_prob(torch.rand(30, *EVENT).double().round())
    for name, out in outputs.items():
        torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(out.shape[1]).double(), atol=1e-6, rtol=0, msg=name)
        torch.testing.assert_close(out.var((0, 2, 3)), torch.ones(out.shape[1]).double(), atol=0.05, rtol=0, msg=name)


# What each convolution is given for S * B latents of B images: what sees the image alone gets B rows.
SHARED = {
    ("masked", None): {"first": (4, 12), "blocks.0.reduce": (12, 12)},
    ("gated", "both"): {"layers.0.vertical": (4, 12), "layers.0.horizontal": (4, 12), "layers.1.vertical": (12, 12)},
    ("gated", "horizontal"): {
        "layers.0.vertical": (4, 4),
        "layers.0.link": (4, 4),
        "layers.0.horizontal": (4, 12),
        "layers.1.vertical": (4, 4),
        "layers.1.horizontal": (12, 12),
        "layers.2.vertical": (4, 4),
        "layers.2.link": (4, 4),
    },
}


@pytest.mark.parametrize("conditioning", ["bias", "maps"])
@pytest.mark.parametrize(("kind", "condition"), SHARED)
def test_samples_of_one_image_share_what_sees_the_image_alone(
    kind: str, condition: str | None, conditioning: str
) -> None:
    fields = {"conditioning": conditioning} | ({} if condition is None else {"condition": condition})
    decoder, z, x = build(kind, EVENT, **fields), torch.randn(3, 4, 2).double(), torch.rand(4, *EVENT).double().round()
    found: dict[str, tuple[int, int]] = {}
    for name in SHARED[kind, condition]:
        layer = decoder.network.get_submodule(name)
        layer.register_forward_hook(lambda _, i, out, name=name: found.__setitem__(name, (len(i[0]), len(out))))
    shared = decoder(z).log_prob(x)
    assert found == SHARED[kind, condition]
    expanded = decoder(z).log_prob(x.expand(3, 4, *EVENT).contiguous())
    assert found != SHARED[kind, condition]
    torch.testing.assert_close(shared, expanded, rtol=1e-12, atol=1e-12)
    looped = torch.stack([torch.stack([decoder(z[s, b]).log_prob(x[b]) for b in range(4)]) for s in range(3)])
    torch.testing.assert_close(shared, looped, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_any_leading_dimensions_of_the_data_broadcast(kind: str) -> None:
    decoder, z = build(kind, EVENT), torch.randn(3, 4, 2).double()
    p_x = decoder(z)
    for lead in ((), (4,), (3, 1), (1, 4), (5, 1, 1), (5, 3, 4), (5, 1, 4)):
        x = torch.rand(*lead, *EVENT).double().round()
        expanded = x.expand(*torch.broadcast_shapes(lead, (3, 4)), *EVENT).contiguous()
        torch.testing.assert_close(p_x.log_prob(x), p_x.log_prob(expanded))


@pytest.mark.parametrize("conditioning", ["bias", "maps"])
def test_pre_activations_are_standardized_on_the_data(conditioning: str) -> None:
    decoder = GatedPixelCNNDecoder(
        (4,), (1, 8, 8), BernoulliLikelihood((1, 8, 8)), (5, 3, 3), 6, None, conditioning, normalization="weight"
    )
    assert supports(decoder, DataInitialized)
    z, x = torch.randn(100, 4), torch.rand(100, 1, 8, 8).round()
    decoder.initialize(z, x)
    outputs: dict[str, Tensor] = {}
    for name, layer in decoder.network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(lambda _, __, out, name=name: outputs.__setitem__(name, out.detach().clone()))
    decoder(z).log_prob(x)
    assert len(outputs) == 3 * 4 + 2 + (conditioning == "maps")
    for name, out in outputs.items():
        std, mean = torch.std_mean(out, [d for d in range(out.dim()) if d != 1], correction=0)
        torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-4, rtol=0, msg=name)
        torch.testing.assert_close(std, torch.ones_like(std), atol=1e-3, rtol=0, msg=name)


def test_no_weight_is_masked_without_a_channel_order() -> None:
    network = build("gated", (1, 6, 6), kernels=(5, 3)).network
    first, second = network.layers
    assert first.vertical.weight.shape == (12, 1 * 2 * 5 + 2)
    assert first.horizontal.weight.shape == (12, 1 * 2 + 2)
    assert second.vertical.weight.shape == (12, 6 * 2 * 3 + 2)
    assert second.horizontal.weight.shape == (12, 6 * 2 + 2)
    assert first.horizontal.live is None
