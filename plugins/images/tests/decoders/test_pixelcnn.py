"""The PixelCNN decoder as a distribution: it normalises, samples follow it, batches broadcast, gradients arrive."""

import itertools
import math

import pytest
import torch
from pydantic import ValidationError
from uncollapse.config import BuildContext
from uncollapse.errors import ShapeError
from uncollapse.likelihoods import BernoulliLikelihood
from uncollapse.protocols import DataSpec
from uncollapse_images.decoders import AutoregressivePixels, PixelCNNDecoder
from uncollapse_images.decoders.pixelcnn import PixelCNNDecoderConfig

CONDITIONINGS = ["bias", "maps"]


def tiny(conditioning: str, event: tuple[int, int, int] = (1, 2, 2), weight_norm: bool = False) -> PixelCNNDecoder:
    """A small decoder in float64 whose conditionals are far from one half."""
    decoder = PixelCNNDecoder(
        (3,), event, BernoulliLikelihood(event), (3, 3), 8, conditioning=conditioning, normalization="weight" if weight_norm else "none"
    ).double()  # fmt: skip
    if weight_norm:
        decoder.initialize(torch.randn(50, 3).double(), torch.rand(50, *event).double().round())
    else:
        with torch.no_grad():
            decoder.network.head[-1].weight *= 4
    return decoder


def binary_images(height: int, width: int) -> torch.Tensor:
    values = list(itertools.product([0.0, 1.0], repeat=height * width))
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, height, width)


@pytest.mark.parametrize("weight_norm", [False, True])
@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_probabilities_of_all_images_sum_to_one(conditioning: str, weight_norm: bool) -> None:
    p_x = tiny(conditioning, weight_norm=weight_norm)(torch.randn(5, 3).double())
    log_p = p_x.log_prob(binary_images(2, 2)[:, None])
    assert log_p.shape == (16, 5)
    torch.testing.assert_close(log_p.exp().sum(0), torch.ones(5).double())
    assert log_p.std() > 0.1


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_samples_follow_the_probabilities(conditioning: str) -> None:
    p_x = tiny(conditioning)(torch.randn(2, 3).double())
    images = binary_images(2, 2)
    probabilities = p_x.log_prob(images[:, None]).exp().detach()
    count = 20_000
    samples = p_x.sample((count,))
    assert samples.shape == (count, 2, 1, 2, 2)
    assert samples.dtype == torch.float64
    codes = (samples.flatten(2) * torch.tensor([8.0, 4.0, 2.0, 1.0])).sum(-1).long()
    for example in range(2):
        observed = torch.bincount(codes[:, example], minlength=16)
        expected = count * probabilities[:, example]
        chi_square = ((observed - expected).square() / expected).sum()
        assert chi_square < 37.7  # the 0.999 quantile with 15 degrees of freedom


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
@pytest.mark.parametrize("kernels", [(3, 3), (5, 3, 1), (7, 5, 5)])
def test_outputs_while_drawing_equal_the_whole_pass(kernels: tuple[int, ...], conditioning: str) -> None:
    event = (2, 9, 4)
    decoder = PixelCNNDecoder((3,), event, BernoulliLikelihood(event), kernels, 6, conditioning=conditioning).double()
    x, z = torch.rand(3, *event).double(), torch.randn(3, 3).double()
    with torch.no_grad():
        known = decoder.network.condition(z)
        whole = decoder.network(x, known)
        state = decoder.network.incremental(known)
        for row, column in itertools.product(range(9), range(4)):
            torch.testing.assert_close(state.outputs(row, column)[..., 0, 0], whole[:, :, row, column])
            state.put(row, column, x[:, :, row, column])


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_samples_and_examples_broadcast_like_a_loop(conditioning: str) -> None:
    decoder = tiny(conditioning, event=(2, 4, 3))
    z, x = torch.randn(3, 5, 3).double(), torch.rand(5, 2, 4, 3).double().round()
    p_x = decoder(z)
    assert isinstance(p_x, AutoregressivePixels)
    assert (p_x.batch_shape, p_x.event_shape) == ((3, 5), (2, 4, 3))
    looped = torch.stack([torch.stack([decoder(z[s, b]).log_prob(x[b]) for b in range(5)]) for s in range(3)])
    torch.testing.assert_close(p_x.log_prob(x), looped)
    torch.testing.assert_close(p_x.teacher_forced(x).log_prob(x), looped)
    torch.testing.assert_close(decoder(z[0, 0]).log_prob(x), torch.stack([decoder(z[0, 0]).log_prob(v) for v in x]))


def test_expanded_distribution_is_the_same() -> None:
    decoder, x = tiny("maps"), binary_images(2, 2)[:5]
    p_x = decoder(torch.randn(5, 3).double())
    wide = p_x.expand((2, 5))
    assert wide.batch_shape == (2, 5)
    torch.testing.assert_close(wide.log_prob(x), p_x.log_prob(x).expand(2, 5))
    assert wide.sample((3,)).shape == (3, 2, 5, 1, 2, 2)


def test_a_sample_is_repeatable_and_there_is_no_mean() -> None:
    p_x = tiny("bias")(torch.randn(4, 3).double())
    torch.manual_seed(7)
    first = p_x.sample()
    torch.manual_seed(7)
    assert torch.equal(first, p_x.sample())
    assert not first.requires_grad
    assert not p_x.has_rsample
    with pytest.raises(NotImplementedError):
        _ = p_x.mean


def test_images_of_another_shape_are_refused() -> None:
    p_x = tiny("bias")(torch.randn(4, 3).double())
    with pytest.raises(ShapeError, match=r"built for data of shape \(1, 2, 2\), found \(4, 1, 3, 3\)"):
        p_x.log_prob(torch.zeros(4, 1, 3, 3))
    with pytest.raises(ShapeError, match="the last dimensions"):
        p_x.log_prob(torch.zeros(2, 2))


def build(event: tuple[int, ...] = (1, 6, 6), latent: tuple[int, ...] = (4,), **fields: object) -> PixelCNNDecoder:
    support = fields.pop("support", "binary")
    context = BuildContext(DataSpec(event, support), latent_shape=latent)
    return PixelCNNDecoderConfig.model_validate({"channels": 6, "kernels": (5, 3, 3), **fields}).build(context)


@pytest.mark.parametrize("weight_norm", [False, True])
@pytest.mark.parametrize("conditioning", CONDITIONINGS)
@pytest.mark.parametrize(
    ("likelihood", "support", "event"),
    [
        ("bernoulli", "binary", (1, 6, 6)),
        ("gaussian", "real", (2, 6, 6)),
        ({"type": "gaussian", "scale": "per_value"}, "real", (2, 6, 6)),
        ("categorical", "bytes", (3, 6, 6)),
    ],
)
def test_every_likelihood_trains_and_samples(
    likelihood: object, support: str, event: tuple[int, ...], conditioning: str, weight_norm: bool
) -> None:
    # Small outputs: an untrained model that predicts its own variance from its own samples runs away.
    fields = {"likelihood": likelihood, "support": support, "conditioning": conditioning}
    decoder = build(event, weight_norm=weight_norm, init_scale=0.1, **fields)
    x = torch.randint(0, 256, (5, *event)) / 255
    x = x.round() if support == "binary" else x
    decoder.initialize(torch.randn(5, 4), x)
    z = torch.randn(2, 5, 4, requires_grad=True)
    log_p = decoder(z).log_prob(x)
    assert log_p.shape == (2, 5)
    assert torch.isfinite(log_p).all()
    log_p.mean().backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert (parameter.grad != 0).all(), name  # every tap, and the latent's weights in every layer
    assert (z.grad != 0).all()
    samples = decoder(z).sample()
    assert samples.shape == (2, 5, *event)
    assert torch.isfinite(decoder(z).log_prob(samples)).all()
    if support == "bytes":
        torch.testing.assert_close((samples * 255).round(), samples * 255)
        assert samples.min() >= 0
        assert samples.max() <= 1


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_spatial_latents_are_flattened(conditioning: str) -> None:
    decoder = build(latent=(2, 3, 3), conditioning=conditioning)
    z, x = torch.randn(4, 5, 2, 3, 3), torch.rand(5, 1, 6, 6).round()
    flat = build(latent=(18,), conditioning=conditioning)
    flat.load_state_dict(decoder.state_dict())
    torch.testing.assert_close(decoder(z).log_prob(x), flat(z.flatten(2)).log_prob(x))


@pytest.mark.parametrize("weight_norm", [False, True])
def test_saved_weights_give_the_same_density(weight_norm: bool) -> None:
    decoder = build(weight_norm=weight_norm)
    x, z = torch.rand(5, 1, 6, 6).round(), torch.randn(5, 4)
    decoder.initialize(z, x)
    other = build(weight_norm=weight_norm)
    assert not torch.equal(other(z).log_prob(x), decoder(z).log_prob(x))
    other.load_state_dict(decoder.state_dict())
    assert torch.equal(other(z).log_prob(x), decoder(z).log_prob(x))


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_bfloat16_autocast_gives_a_float32_density(conditioning: str) -> None:
    decoder = build(conditioning=conditioning, weight_norm=True)
    x, z = torch.rand(5, 1, 6, 6).round(), torch.randn(5, 4)
    decoder.initialize(z, x)
    with torch.autocast("cpu", torch.bfloat16):
        p_x = decoder(z)
        log_p = p_x.log_prob(x)
        samples = p_x.sample()
    assert log_p.dtype == samples.dtype == torch.float32
    torch.testing.assert_close(log_p, decoder(z).log_prob(x), rtol=0.02, atol=0.1)
    log_p.mean().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in decoder.parameters())


def test_maes_decoder_is_a_config() -> None:
    decoder = build(
        (1, 28, 28), (32,), kernels=[7, 7, 5, 5, 3, 3], channels=64, conditioning="maps", weight_norm=True
    )  # fmt: skip
    network = decoder.network
    assert [block.masked.kernel_size[0] for block in network.blocks] == [7, 5, 5, 3, 3]
    assert network.first.visible_channels == 4
    assert network.blocks[0].masked.in_channels == 32
    assert network.first.weight.shape == (64, 24 + 4 * 49)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kernels": (7, 4, 5)}, "must be odd .* found 4 in .*; try 3 or 5"),
        ({"kernels": (1, 3)}, "first kernel must be at least 3, found 1"),
        ({"kernels": ()}, "at least 1 item"),
        ({"kernels": (7, -3)}, "greater than 0"),
        ({"channels": 0}, "greater than 0"),
        ({"hidden": 0}, "greater than 0"),
        ({"maps": 0}, "greater than 0"),
        ({"init_scale": 0.0}, "greater than 0"),
        ({"conditioning": "gate"}, "'bias' or 'maps'"),
        ({"layers": 6}, "Extra inputs are not permitted"),
    ],
)
def test_wrong_fields_are_named(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        PixelCNNDecoderConfig.model_validate(fields)
    assert caught.value.errors()[0]["loc"][0] == next(iter(fields))


def test_data_that_are_no_images_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"model.decoder.*images of shape \(C, H, W\), found data of shape \(7,\)"):
        build((7,))


def test_config_survives_json() -> None:
    config = PixelCNNDecoderConfig(kernels=(7, 7, 5), conditioning="maps", likelihood="categorical")
    assert PixelCNNDecoderConfig.model_validate_json(config.model_dump_json()) == config


def test_hidden_channels_default_to_half() -> None:
    assert build().network.blocks[0].masked.in_channels == 3
    assert build(hidden=5).network.blocks[0].masked.in_channels == 5
    assert build(channels=1).network.blocks[0].masked.in_channels == 1


def test_density_at_the_start_is_near_a_coin_flip_each_pixel() -> None:
    log_p = build()(torch.randn(50, 4)).log_prob(torch.rand(50, 1, 6, 6).round())
    assert abs(-log_p.mean().item() / 36 - math.log(2)) < 0.2
