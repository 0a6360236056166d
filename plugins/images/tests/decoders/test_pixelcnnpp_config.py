"""The PixelCNN++ as a component: what its config builds, and what it refuses."""

import itertools

import pytest
import torch
from pydantic import ValidationError
from uncollapse.config import BuildContext
from uncollapse.errors import ShapeError
from uncollapse.protocols import DataSpec
from uncollapse_images.decoders import PixelCNNPPDecoder
from uncollapse_images.decoders.pixelcnnpp import PixelCNNPPDecoderConfig


def build(event=(3, 8, 8), latent=(4,), support="bytes", **fields) -> PixelCNNPPDecoder:
    small = {"levels": 2, "blocks": 1, "filters": 4, "maps": 2, **fields}
    context = BuildContext(DataSpec(event, support), latent_shape=latent)
    return PixelCNNPPDecoderConfig.model_validate(small).build(context)


def test_values_of_an_interval_are_centred_and_real_ones_are_not() -> None:
    x = torch.rand(2, 3, 8, 8)
    ones = torch.ones(2, 1, 8, 8)
    torch.testing.assert_close(build().network.prepared(x), torch.cat([2 * x - 1, ones], 1))
    real = build(support="real", likelihood="gaussian")
    torch.testing.assert_close(real.network.prepared(x), torch.cat([x, ones], 1))


def test_probabilities_of_all_images_sum_to_one() -> None:
    event = (1, 2, 2)
    decoder = build(event, (3,), "binary", filters=6, likelihood="bernoulli").double()
    decoder.initialize(torch.randn(50, 3).double(), torch.rand(50, *event).double().round())
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4))).double().view(16, 1, *event)
    log_p = decoder(torch.randn(5, 3).double()).log_prob(every)
    torch.testing.assert_close(log_p.exp().sum(0), torch.ones(5).double())
    assert log_p.std() > 0.1


def test_config_round_trips_and_weights_are_saved() -> None:
    config = PixelCNNPPDecoderConfig(blocks=2, activation="elu", dropout=0.5, likelihood="bernoulli")
    assert PixelCNNPPDecoderConfig.model_validate_json(config.model_dump_json()) == config
    one, two = build(), build()
    z, x = torch.randn(5, 4), torch.randint(0, 256, (5, 3, 8, 8)) / 255
    one.initialize(z, x)
    two.load_state_dict(one.state_dict())
    assert torch.equal(one(z).log_prob(x), two(z).log_prob(x))


@pytest.mark.parametrize(
    ("event", "latent", "fields", "message"),
    [
        ((7,), (4,), {}, r"model\.decoder: convolutions need images of shape \(C, H, W\)"),
        ((3, 30, 30), (4,), {"levels": 3}, "sides must be multiples of 4, found 30x30; use levels: 2, or images"),
        ((3, 7, 8), (4,), {}, "sides must be multiples of 2, found 7x8; use levels: 1"),
        (
            (3, 32, 32),
            (16, 7, 7),
            {},
            r"model\.posterior\.latent_dim: .*from 7x7 never gives 32x32; .*32x32, 16x16, 8x8",
        ),
        ((3, 8, 16), (4, 4, 4), {}, "from 4x4 never gives 8x16; use a latent of 8x16, 4x8"),
        ((3, 8, 8), (4, 16, 16), {}, "from 16x16 never gives 8x8"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(event, latent, fields, message) -> None:
    with pytest.raises(ShapeError, match=message):
        build(event, latent, **fields)


@pytest.mark.parametrize(
    "fields",
    [{"levels": 0}, {"levels": 9}, {"blocks": 0}, {"filters": 0}, {"maps": 0}, {"dropout": 1.0}, {"activation": "relu"},
     {"init_scale": 0.0}, {"channels": 3}],
)  # fmt: skip
def test_wrong_fields_are_refused(fields) -> None:
    with pytest.raises(ValidationError):
        PixelCNNPPDecoderConfig.model_validate(fields)


def test_images_of_other_channels_are_refused() -> None:
    p_x = build()(torch.randn(2, 4))
    with pytest.raises(ShapeError, match=r"built for data of shape \(3, 8, 8\), found \(2, 1, 8, 8\)"):
        p_x.log_prob(torch.zeros(2, 1, 8, 8))
