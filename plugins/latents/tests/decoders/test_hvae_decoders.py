"""The decoders of hierarchies: their formulas, what a pixel may know, and samples drawn step by step."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional
from torch.testing import assert_close
from uncollapse.config import BuildContext
from uncollapse.errors import ConfigError, ShapeError
from uncollapse.likelihoods import BernoulliLikelihood, GaussianLikelihood
from uncollapse.plugins import registry
from uncollapse.protocols import DataSpec
from uncollapse_latents.decoders import HVAEConvDecoder, HVAEPixelCNNDecoder

D1, D2 = 3, 2
DOUBLE = torch.float64


def gated(layer, x):
    (w, v), (b, c) = layer.weight.chunk(2), layer.bias.chunk(2)
    return (x @ w.T + b) * torch.sigmoid(x @ v.T + c)


def gated_conv(layer, x):
    (w, v), (b, c) = layer.weight.chunk(2), layer.bias.chunk(2)
    return functional.conv2d(x, w, b, padding=1) * torch.sigmoid(functional.conv2d(x, v, c, padding=1))


# --------------------------------------------------------------------------------------------------------------- conv


def test_conv_decoder_is_the_formula():
    event = (2, 5, 4)
    decoder = HVAEConvDecoder((D1 + D2,), event, BernoulliLikelihood(event), (D1, D2), 4, (3, 3)).double()
    z = torch.randn(3, 6, D1 + D2, dtype=DOUBLE)
    h = torch.cat([gated(decoder.levels.layers[0], z[..., :D1]), gated(decoder.levels.layers[1], z[..., D1:])], -1)
    maps = gated(decoder.joint, h).reshape(18, *event)
    for layer in list(decoder.net)[1:-1]:
        maps = gated_conv(layer, maps)
    head = decoder.net[-1]
    logits = torch.einsum("oc,nchw->nohw", head.weight[:, :, 0, 0], maps) + head.bias[:, None, None]
    p = decoder(z)
    assert (p.batch_shape, p.event_shape) == ((3, 6), event)
    assert_close(p.mean, torch.sigmoid(logits).reshape(3, 6, *event))
    assert_close(decoder(z[0, 0]).mean, p.mean[0, 0])


def test_conv_decoder_has_the_released_sizes():
    """z1 and z2 to 300 each, 600 to 784, four gated convolutions 3x3 with 64 channels, 1x1."""
    decoder = HVAEConvDecoder((80,), (1, 28, 28), BernoulliLikelihood((1, 28, 28)), (40, 40))
    assert [tuple(layer.weight.shape) for layer in decoder.levels.layers] == [(600, 40)] * 2
    assert decoder.joint.weight.shape == (2 * 784, 600)
    convolutions = [tuple(m.weight.shape) for m in decoder.net if hasattr(m, "weight")]
    assert convolutions == [(128, 1, 3, 3), *[(128, 64, 3, 3)] * 3, (1, 64, 1, 1)]


def test_a_likelihood_gets_as_many_outputs_as_it_reads():
    event = (3, 4, 4)
    decoder = HVAEConvDecoder((5,), event, GaussianLikelihood(event, scale="per_value"), None, 4, (3,))
    assert decoder(torch.randn(2, 5)).event_shape == event


# ----------------------------------------------------------------------------------------------------------- pixelcnn

EVENT = (1, 5, 6)


def pixel_decoder(latent_mask="masked", event=EVENT, **fields):
    torch.manual_seed(0)
    fields = {"kernels": (3, 3, 3), "channels": 5, **fields}
    decoder = HVAEPixelCNNDecoder(
        (D1 + D2,), event, BernoulliLikelihood(event), (D1, D2), latent_mask=latent_mask, **fields
    ).double()
    with torch.no_grad():
        # Normalization that does something: statistics and scales as they are after some training.
        for norm in decoder.network.norms:
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2.0)
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_()
    return decoder.eval()


def test_pixel_decoder_has_the_released_sizes():
    """One map a level; 3 channels to 64, eight masked 3x3 convolutions without biases, 1x1."""
    decoder = HVAEPixelCNNDecoder((80,), (1, 28, 28), BernoulliLikelihood((1, 28, 28)), (40, 40))
    network = decoder.network
    assert [tuple(layer.weight.shape) for layer in network.condition[0].layers] == [(2 * 784, 40)] * 2
    assert network.first.weight.shape == (64, 3 * 4)
    assert [tuple(layer.weight.shape) for layer in network.layers] == [(64, 64 * 5)] * 7
    assert len(network.norms) == 8
    assert all(layer.bias is None for layer in (network.first, *network.layers))
    assert network.head.weight.shape == (1, 64, 1, 1)


def full_kernel(layer):
    """The k x k kernel of a masked convolution, zeros where it is masked."""
    k = layer.kernel_size[0]
    taps = layer.weight.reshape(-1, layer.in_channels, layer.live_taps)
    return functional.pad(taps, (0, k * k - layer.live_taps)).reshape(-1, layer.in_channels, k, k)


def normalized(norm, h):
    shape = (1, -1, 1, 1)
    scaled = (h - norm.running_mean.view(shape)) / (norm.running_var.view(shape) + norm.eps).sqrt()
    return (scaled * norm.weight.view(shape) + norm.bias.view(shape)).clamp(min=0)


def test_pixel_decoder_is_the_formula():
    decoder, x, z = pixel_decoder(), (torch.rand(4, *EVENT) > 0.5).double(), torch.randn(4, D1 + D2, dtype=DOUBLE)
    network = decoder.network
    levels = network.condition[0].layers
    maps = [gated(levels[0], z[:, :D1]), gated(levels[1], z[:, D1:])]
    h = torch.cat([x, *(m.reshape(4, *EVENT) for m in maps)], 1)
    for layer, norm in zip((network.first, *network.layers), network.norms, strict=True):
        h = normalized(norm, functional.conv2d(h, full_kernel(layer), padding=1))
    p = torch.sigmoid(functional.conv2d(h, network.head.weight, network.head.bias))
    assert_close(decoder(z).teacher_forced(x).mean, p)


def positions_that_matter(decoder, row, column):
    """The pixels, and the places of the latent's maps, that the output at a position depends on: [2, H, W]."""
    network = decoder.network
    x = torch.rand(1, *EVENT, dtype=DOUBLE, requires_grad=True)
    maps = torch.randn(1, 2, *EVENT[1:], dtype=DOUBLE, requires_grad=True)
    gradients = torch.autograd.grad(network(x, maps)[0, :, row, column].sum(), [x, maps], allow_unused=True)
    return [torch.zeros(EVENT[1:], dtype=torch.bool) if g is None else (g[0] != 0).any(0) for g in gradients]


def before(row, column):
    order = torch.arange(EVENT[1] * EVENT[2]).reshape(EVENT[1:])
    return order < order[row, column]


@pytest.mark.parametrize("position", [(0, 0), (0, 3), (2, 3), (4, 5)])
@pytest.mark.parametrize("latent_mask", ["masked", "visible"])
def test_what_a_pixel_may_know(latent_mask, position):
    """Released: the first mask hides the latent's maps like the image, at a position and behind it."""
    decoder = pixel_decoder(latent_mask)
    for norm in decoder.network.norms:
        # No dead units: every path shows in the gradient.
        norm.bias.data.fill_(30.0)
    image, maps = positions_that_matter(decoder, *position)
    assert not bool((image & ~before(*position)).any())
    if latent_mask == "masked":
        assert_close(maps, image)
        assert bool(image.any()) == (position != (0, 0))
    else:
        row, column = position
        assert bool(maps[row, column])
        assert bool((maps & ~before(row, column)).any())
    if position == (2, 3):
        # Three layers of 3x3 reach three rows up; left of the pixel its neighbour is seen.
        assert bool(image[2, 2])
        assert bool(image[0].any())


@torch.no_grad()
def test_the_first_pixel_is_told_nothing_of_a_masked_latent():
    x, z = torch.zeros(2, *EVENT, dtype=DOUBLE), torch.randn(2, D1 + D2, dtype=DOUBLE)
    hidden = pixel_decoder("masked")(z).teacher_forced(x).mean[:, 0]
    assert_close(hidden[0, 0, 0], hidden[1, 0, 0], rtol=0, atol=0)
    assert float((hidden[0, 0, 1] - hidden[1, 0, 1]).abs()) > 1e-6
    seen = pixel_decoder("visible")(z).teacher_forced(x).mean[:, 0]
    assert float((seen[0, 0, 0] - seen[1, 0, 0]).abs()) > 1e-6


def plain_loop(p, shape):
    """Every position by a whole pass over the image, the same draws in the same order."""
    x = torch.zeros(*p.batch_shape, *shape, dtype=DOUBLE)
    for row in range(shape[1]):
        for column in range(shape[2]):
            mean = p.teacher_forced(x).mean[..., row, column]
            # As the likelihood draws: one number a pixel from torch's generator.
            x[..., row, column] = torch.bernoulli(mean)
    return x


@pytest.mark.parametrize("latent_mask", ["masked", "visible"])
@pytest.mark.parametrize("event", [EVENT, (3, 4, 5)], ids=str)
def test_samples_are_those_of_the_plain_loop(latent_mask, event):
    decoder = pixel_decoder(latent_mask, event=event, kernels=(5, 3, 3))
    with torch.no_grad():
        p = decoder(torch.randn(2, 3, D1 + D2, dtype=DOUBLE))
        torch.manual_seed(1)
        x = p.sample()
        torch.manual_seed(1)
        assert_close(x, plain_loop(p, event), rtol=0, atol=0)
    assert 0.05 < float(x.mean()) < 0.95


@pytest.mark.parametrize("latent_mask", ["masked", "visible"])
def test_many_latents_share_an_image(latent_mask):
    decoder, x = pixel_decoder(latent_mask), (torch.rand(4, *EVENT) > 0.5).double()
    z = torch.randn(3, 4, D1 + D2, dtype=DOUBLE)
    each = torch.stack([torch.stack([decoder(z[s, b]).log_prob(x[b]) for b in range(4)]) for s in range(3)])
    assert_close(decoder(z).log_prob(x), each)


# -------------------------------------------------------------------------------------------------------------- config

CONTEXT = BuildContext(DataSpec((1, 4, 4), "binary"), latent_shape=(5,), latent_levels=(3, 2))


def build(name, context=CONTEXT, **fields):
    return registry().find("decoder", name).model_validate(fields).build(context)


def levels_of(decoder):
    return decoder.levels.levels if isinstance(decoder, HVAEConvDecoder) else decoder.network.condition[0].levels


@pytest.mark.parametrize("name", ["hvae_conv", "hvae_pixelcnn"])
def test_levels_come_from_the_posterior(name):
    assert levels_of(build(name)) == [3, 2]
    without = replace(CONTEXT, latent_levels=())
    assert levels_of(build(name, without)) == [5]
    assert levels_of(build(name, without, top_dim=4)) == [1, 4]
    assert levels_of(build(name, replace(CONTEXT, latent_shape=(6,), latent_levels=(1, 2, 3)))) == [1, 2, 3]
    with pytest.raises(
        ConfigError, match=r"model\.decoder\.top_dim: found 3, but the top level of the posterior has 2"
    ):
        build(name, top_dim=3)


@pytest.mark.parametrize("kind", [HVAEConvDecoder, HVAEPixelCNNDecoder])
def test_levels_must_fill_the_latent(kind):
    with pytest.raises(
        ShapeError, match=r"model\.decoder: levels of 3 \+ 3 dimensions do not make up a latent of shape"
    ):
        kind((5,), EVENT, BernoulliLikelihood(EVENT), (3, 3))


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("hvae_conv", {"kernel_size": 4}, "expected an odd size"),
        ("hvae_conv", {"kernel_size": [3, 3]}, "found 2 values"),
        ("hvae_pixelcnn", {"kernels": [3, 4]}, "expected an odd size"),
        ("hvae_pixelcnn", {"kernels": [1, 3]}, "the first kernel must be at least 3"),
        ("hvae_pixelcnn", {"latent_mask": "half"}, "'masked' or 'visible'"),
    ],
)
def test_fields_are_checked(name, fields, message):
    with pytest.raises((ValidationError, ConfigError), match=message):
        registry().find("decoder", name).model_validate(fields)
