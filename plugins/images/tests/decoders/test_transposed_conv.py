"""Transposed convolutions by another way through torch: the numbers and gradients of torch's own layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from uncollapse.decoders.transposed_conv import TransposedConv2d
from uncollapse_images.weight_norm import weight_normalized

LAYERS = {
    "one": (3, 1, 3, 2, 1, 1),
    "three": (2, 3, 4, 2, 1, 0),
    "many": (3, 5, 3, 2, 1, 1),
    "point": (2, 1, 1, 2, 0, 1),
    "wide": (2, 2, 3, 1, 1, 0),
}


@pytest.mark.parametrize("name", LAYERS)
def test_same_numbers_and_gradients(name):
    ours, theirs = TransposedConv2d(*LAYERS[name]).double(), nn.ConvTranspose2d(*LAYERS[name]).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(4, LAYERS[name][0], 5, 3, dtype=torch.float64, requires_grad=True)
    gradients = []
    for layer in (ours, theirs):
        out = layer(x)
        gradients.append(torch.autograd.grad(out.sin().sum(), [x, *layer.parameters()], create_graph=True))
        # Remedies differentiate through inner steps, so second derivatives count as well.
        gradients.append(torch.autograd.grad(gradients[-1][1].square().sum(), [x, layer.weight]))
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(gradients[0], gradients[2])
    torch.testing.assert_close(gradients[1], gradients[3])


@pytest.mark.parametrize("name", LAYERS)
def test_half_precision_and_weight_normalization(name):
    layer = weight_normalized(TransposedConv2d(*LAYERS[name]))
    x = torch.randn(4, LAYERS[name][0], 5, 3)
    expected = nn.functional.conv_transpose2d(
        x, layer.weight, layer.bias, layer.stride, layer.padding, layer.output_padding
    )
    torch.testing.assert_close(layer(x), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = layer(x)
        assert half.dtype == torch.bfloat16
        layer(half[:, : LAYERS[name][0]].expand(-1, LAYERS[name][0], -1, -1))
    torch.testing.assert_close(half.float(), expected, rtol=0.05, atol=0.02)
