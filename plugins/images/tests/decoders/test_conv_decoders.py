"""The two factorised convolutional decoders."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional
from uncollapse.capabilities import supports
from uncollapse.config import BuildContext
from uncollapse.decoders import ConvDecoder
from uncollapse.encoders import ConvEncoder
from uncollapse.errors import ConfigError, ShapeError
from uncollapse.likelihoods import BernoulliLikelihood, CategoricalLikelihood, GaussianLikelihood
from uncollapse.model import LatentVariableModel
from uncollapse.plugins import registry
from uncollapse.posteriors import GaussianPosterior
from uncollapse.priors import StandardNormalPrior
from uncollapse.protocols import DataInitialized, DataSpec
from uncollapse_images.decoders import ResNetDecoder
from uncollapse_images.decoders.resnet import TransposedResidualBlock

SIZES = [(1, 28, 28), (3, 32, 32), (1, 8, 8), (2, 7, 13), (1, 1, 5)]
SMALL = {"conv": {"channels": (6, 5)}, "resnet": {"widths": (6, 5)}}
CLASSES = {"conv": ConvDecoder, "resnet": ResNetDecoder}


def small(kind, latent_shape, event_shape, likelihood=None):
    return CLASSES[kind](latent_shape, event_shape, likelihood or BernoulliLikelihood(event_shape), **SMALL[kind])


def config(kind, **fields):
    return registry().find("decoder", kind).model_validate({"type": kind, **fields})


def context(event_shape, support="binary", latent_shape=(6,)):
    return BuildContext(DataSpec(event_shape, support), latent_shape)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("latent_shape", [(5,), (3, 2, 2)])
@pytest.mark.parametrize("event_shape", SIZES)
def test_meets_every_size_and_gradients_reach_everything(kind, event_shape, latent_shape):
    decoder = small(kind, latent_shape, event_shape)
    z = torch.randn(2, 4, *latent_shape, requires_grad=True)
    p = decoder(z)
    assert p.batch_shape == (2, 4)
    assert p.event_shape == event_shape
    assert p.sample().shape == (2, 4, *event_shape)
    p.log_prob(torch.bernoulli(torch.rand(4, *event_shape))).sum().backward()
    assert z.grad.abs().sum() > 0
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("kind", CLASSES)
def test_samples_and_examples_do_not_mix(kind):
    decoder = small(kind, (5,), (1, 9, 9))
    z = torch.randn(2, 3, 5)
    logits = decoder(z).logits
    one = decoder(z[1, 2])
    assert one.batch_shape == ()
    torch.testing.assert_close(one.logits, logits[1, 2])
    torch.testing.assert_close(decoder(z[0]).logits, logits[0])
    assert torch.equal(decoder.eval()(z).logits, logits)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize(
    "likelihood", [GaussianLikelihood((3, 8, 8), "per_value"), CategoricalLikelihood((3, 8, 8), 7)]
)
def test_puts_out_what_the_likelihood_asks_for(kind, likelihood):
    p = small(kind, (5,), (3, 8, 8), likelihood)(torch.randn(4, 5))
    assert p.event_shape == (3, 8, 8)
    assert p.log_prob(torch.zeros(4, 3, 8, 8)).shape == (4,)


@pytest.mark.parametrize("kind", CLASSES)
def test_outputs_are_logits(kind):
    # An activation after the last layer would bound them from below.
    logits = small(kind, (5,), (1, 28, 28))(20 * torch.randn(50, 5)).logits
    assert logits.min() < 0 < logits.max()


def test_conv_mirrors_the_encoder():
    kernels, strides, channels = (3, 4, 5), (2, 1, 3), (4, 5, 6)
    encoder = ConvEncoder((1, 29, 17), channels, kernels, strides, flatten=False)
    decoder = ConvDecoder(
        (3,), (1, 29, 17), BernoulliLikelihood((1, 29, 17)), channels[::-1], kernels[::-1], strides[::-1]
    )
    assert decoder.stem(torch.randn(1, 3)).shape[1:] == encoder.feature_shape


def test_infovaes_network_has_its_parameters():
    likelihood = BernoulliLikelihood((1, 28, 28))
    decoder = ConvDecoder((20,), (1, 28, 28), likelihood, (128, 64), kernel_size=4, hidden=(1024,))
    dense = (20 * 1024 + 1024) + (1024 * 7 * 7 * 128 + 7 * 7 * 128)
    transposed = (128 * 64 * 16 + 64) + (64 * 16 + 1)
    assert sum(p.numel() for p in decoder.parameters()) == dense + transposed


def test_spatial_latent_of_the_smallest_size_is_read_locally():
    decoder = ConvDecoder((16, 8, 8), (3, 32, 32), BernoulliLikelihood((3, 32, 32)), (6, 5))
    assert not any(isinstance(m, nn.Linear) for m in decoder.modules())
    z = torch.randn(1, 16, 8, 8)
    moved = z.clone()
    moved[..., 0, 0] += 1
    changed = (decoder(z).logits != decoder(moved).logits)[0].any(0)
    assert changed[0, 0]
    assert not changed[16:, 16:].any()


def test_resnet_default_is_maes():
    decoder = ResNetDecoder((32,), (1, 28, 28), BernoulliLikelihood((1, 28, 28)))
    seen = []
    blocks = [m for m in decoder.modules() if isinstance(m, TransposedResidualBlock)]
    for block in blocks:
        block.register_forward_hook(lambda _m, i, o: seen.append((tuple(i[0].shape[1:]), tuple(o.shape[1:]))))
    decoder(torch.randn(2, 32))
    assert seen == [((64, 4, 4), (64, 7, 7)), ((64, 7, 7), (32, 14, 14)), ((32, 14, 14), (1, 28, 28))]
    assert [b.first.output_padding for b in blocks] == [(0, 0), (1, 1), (1, 1)]


def test_resnet_computes_the_preactivated_formula():
    decoder = small("resnet", (3,), (1, 9, 6)).double()
    z = torch.randn(4, 3, dtype=torch.float64)
    decoder.initialize(z, torch.zeros(4, 1, 9, 6))

    def deconv(layer, h):
        v, g = layer.parametrizations.weight.original1, layer.parametrizations.weight.original0
        weight = g * v / (v.transpose(0, 1).flatten(1).norm(dim=1) + 1e-8).view(1, -1, 1, 1)
        return functional.conv_transpose2d(h, weight, layer.bias, layer.stride, layer.padding, layer.output_padding)

    h = functional.elu(deconv(decoder.net[1], z[:, :, None, None]))
    assert h.shape == (4, 6, 3, 2)
    for block in decoder.net[3:]:
        a = functional.elu(h)
        h = deconv(block.second, functional.elu(deconv(block.first, a))) + deconv(block.shortcut, a)
    torch.testing.assert_close(decoder(z).logits, h, rtol=1e-6, atol=1e-8)


def test_resnet_initialize_standardizes_every_layer():
    decoder = small("resnet", (5,), (1, 28, 28))
    assert supports(decoder, DataInitialized)
    z = torch.randn(100, 5)
    decoder.initialize(z, torch.zeros(100, 1, 28, 28))
    layers = [m for m in decoder.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert len(layers) == 7
    outputs = []
    for layer in layers:
        layer.register_forward_hook(lambda _m, _i, out: outputs.append(out.detach()))
    decoder(z)
    for out in outputs:
        per_channel = out.movedim(1, 0).flatten(1)
        torch.testing.assert_close(per_channel.mean(1), torch.zeros(out.shape[1]), atol=1e-4, rtol=0)
        torch.testing.assert_close(per_channel.std(1), torch.ones(out.shape[1]), atol=0, rtol=5e-3)


def test_model_of_residual_parts_initializes_and_learns():
    ctx = context((1, 8, 8), latent_shape=(4,))
    encoder = registry().find("encoder", "resnet")(widths=(4,), features=8).build(ctx)
    posterior = GaussianPosterior(encoder.feature_shape, (4,))
    model = LatentVariableModel(encoder, posterior, StandardNormalPrior((4,)), config("resnet", widths=[4]).build(ctx))
    x = (torch.arange(64).view(1, 1, 8, 8) % 3 == 0).float().expand(16, 1, 8, 8)
    model.initialize(x)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        inference = model(x, samples=2)
        loss = (inference.distortion + inference.rate()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert losses[-1] < 64 * math.log(2)


@pytest.mark.parametrize("kind", CLASSES)
def test_config_round_trips_and_state_loads(kind, tmp_path):
    fields = {**SMALL[kind], "likelihood": {"type": "gaussian", "scale": "learned"}}
    built = config(kind, **fields)
    assert type(built).model_validate_json(built.model_dump_json()) == built
    assert "real" in built.supports
    one, two = (built.build(context((1, 8, 8), "real")) for _ in range(2))
    torch.save(one.state_dict(), tmp_path / "state.pt")
    two.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    z = torch.randn(3, 6)
    assert torch.equal(one(z).mean, two(z).mean)
    assert not torch.equal(one(z).mean, built.build(context((1, 8, 8), "real"))(z).mean)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("event_shape", [(10,), (28, 28)])
def test_data_that_are_no_images_are_refused(kind, event_shape):
    with pytest.raises(ShapeError, match=r"model\.decoder: .*\(C, H, W\).*'mlp'"):
        config(kind).build(context(event_shape))


def test_layers_that_shrink_the_data_away_are_refused():
    with pytest.raises(ShapeError, match=r"model\.decoder: data of 8x8 have shrunk"):
        config("conv", channels=[4] * 4, kernel_size=4).build(context((1, 8, 8)))


@pytest.mark.parametrize("field", ["kernel_size", "stride"])
def test_one_number_a_layer(field):
    with pytest.raises(ValidationError, match=f"{field}: found 2 values .* for 3 layers"):
        config("conv", **{field: [3, 3]})
    with pytest.raises(ConfigError, match=rf"model\.decoder\.{field}: found 2 values"):
        ConvDecoder((2,), (1, 8, 8), BernoulliLikelihood((1, 8, 8)), **{field: (1, 1)})


@pytest.mark.parametrize(
    ("kind", "fields"),
    [("conv", {"channels": []}), ("conv", {"stride": 0}), ("conv", {"activation": "sin"}), ("resnet", {"widths": [0]})],
)
def test_wrong_fields_are_refused(kind, fields):
    with pytest.raises(ValidationError):
        config(kind, **fields)
