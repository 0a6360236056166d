import pytest
import torch
from pydantic import ValidationError
from uncollapse.config import BuildContext
from uncollapse.encoders import ConvEncoder
from uncollapse.encoders.conv import map_sizes
from uncollapse.errors import ConfigError, ShapeError
from uncollapse.plugins import registry
from uncollapse.posteriors import GaussianPosterior
from uncollapse.protocols import DataSpec


def context(event_shape, latent_shape=(6,)):
    return BuildContext(DataSpec(event_shape, "binary"), latent_shape)


def config(**fields):
    return registry().find("encoder", "conv").model_validate({"type": "conv", **fields})


@pytest.mark.parametrize("event_shape", [(1, 28, 28), (3, 32, 32), (1, 8, 8), (2, 7, 13), (1, 1, 1)])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, (1, 3, 2)])
def test_features_have_the_stated_shape_and_gradients_reach_everything(event_shape, kernel_size, stride):
    encoder = ConvEncoder(event_shape, (4, 5, 6), kernel_size, stride, activation="elu", hidden=(9,))
    x = torch.rand(3, *event_shape)
    h = encoder(x)
    assert h.shape == (3, *encoder.feature_shape) == (3, 9)
    h.square().sum().backward()
    for name, p in encoder.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().sum() > 0, name
    assert torch.equal(h, encoder.eval()(x))


@pytest.mark.parametrize("event_shape", [(1, 28, 28), (3, 32, 32), (2, 16, 21)])
def test_even_kernels_halve(event_shape):
    encoder = ConvEncoder(event_shape, (4, 5), kernel_size=4, stride=2, flatten=False)
    assert encoder.feature_shape == (5, event_shape[1] // 4, event_shape[2] // 4)
    assert encoder(torch.rand(2, *event_shape)).shape[1:] == encoder.feature_shape


def test_infovaes_network_has_its_parameters():
    # Zhao et al.'s released encoder: 64 and 128 maps, 4x4, stride 2, then 1024 units.
    encoder = ConvEncoder((1, 28, 28), (64, 128), kernel_size=4, activation="leaky_relu", hidden=(1024,))
    count = sum(p.numel() for p in encoder.parameters())
    assert count == (16 * 64 + 64) + (64 * 16 * 128 + 128) + (7 * 7 * 128 * 1024 + 1024)


def test_last_layer_of_a_map_is_linear():
    # Moments must be able to be negative, so a ReLU must not follow the 1x1 convolution.
    encoder = ConvEncoder((3, 32, 32), (8, 8), flatten=False, out_channels=32)
    assert encoder.feature_shape == (32, 8, 8)
    assert encoder(torch.rand(4, 3, 32, 32)).min() < 0


def test_map_feeds_a_spatial_gaussian():
    latent = (16, 8, 8)
    encoder = config(channels=[8, 8], flatten=False).build(context((3, 32, 32), latent))
    posterior = GaussianPosterior(encoder.feature_shape, latent)
    q = posterior(encoder(torch.rand(5, 3, 32, 32)))
    assert q.batch_shape == (5,)
    assert q.event_shape == latent


def test_map_without_spatial_latent_keeps_its_channels():
    assert config(channels=[8, 7], flatten=False).build(context((3, 32, 32))).feature_shape == (7, 8, 8)


def test_config_builds_what_the_class_builds_and_round_trips():
    fields = {"channels": [4, 5], "kernel_size": [5, 3], "stride": [1, 2], "activation": "tanh", "hidden": [11]}
    built = config(**fields)
    assert type(built).model_validate_json(built.model_dump_json()) == built
    encoder = built.build(context((1, 9, 9)))
    by_hand = ConvEncoder((1, 9, 9), (4, 5), (5, 3), (1, 2), "tanh", hidden=(11,))
    by_hand.load_state_dict(encoder.state_dict())
    x = torch.rand(2, 1, 9, 9)
    assert torch.equal(encoder(x), by_hand(x))


@pytest.mark.parametrize("event_shape", [(10,), (28, 28), (1, 2, 3, 4)])
def test_data_that_are_no_images_are_refused(event_shape):
    with pytest.raises(ShapeError, match=r"model\.encoder: .*\(C, H, W\).*'mlp'"):
        config().build(context(event_shape))


def test_layers_that_shrink_the_data_away_are_refused():
    with pytest.raises(ShapeError, match=r"model\.encoder: data of 8x8 have shrunk to 1x1 before layer 3.*kernel of 4"):
        config(channels=[4] * 4, kernel_size=4).build(context((1, 8, 8)))


@pytest.mark.parametrize("field", ["kernel_size", "stride"])
def test_one_number_a_layer(field):
    with pytest.raises(ValidationError, match=f"{field}: found 2 values .* for 3 layers"):
        config(**{field: [3, 3]})
    with pytest.raises(ConfigError, match=rf"model\.encoder\.{field}: found 4 values"):
        ConvEncoder((1, 8, 8), (1, 1, 1), **{field: (1, 1, 1, 1)})


@pytest.mark.parametrize(
    "fields", [{"channels": []}, {"channels": [0]}, {"stride": 0}, {"kernel_size": -1}, {"kernels": 3}, {"hidden": [0]}]
)
def test_wrong_fields_are_refused(fields):
    with pytest.raises(ValidationError):
        config(**fields)


def test_hidden_layers_need_a_vector():
    with pytest.raises(ValidationError, match=r"hidden: .*flatten: true"):
        config(hidden=[8], flatten=False)
    with pytest.raises(ConfigError, match=r"model\.encoder\.hidden"):
        ConvEncoder((1, 8, 8), hidden=(8,), flatten=False)


def test_sizes_of_an_odd_kernel_are_ceilings():
    assert map_sizes((28, 9), (3, 5, 1), (2, 2, 2), "here") == [(28, 9), (14, 5), (7, 3), (4, 2)]
