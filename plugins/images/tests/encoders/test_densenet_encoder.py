import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional
from uncollapse.capabilities import supports
from uncollapse.config import BuildContext
from uncollapse.errors import ConfigError, ShapeError
from uncollapse.plugins import registry
from uncollapse.posteriors import GaussianPosterior
from uncollapse.protocols import DataInitialized, DataSpec
from uncollapse_images.encoders import DenseNetEncoder
from uncollapse_images.encoders.densenet import DenseStep

SMALL = {"growth": (2, 3), "steps": (1, 2), "features": 5}


def config(**fields):
    return registry().find("encoder", "densenet").model_validate({"type": "densenet", **fields})


def test_default_is_maes():
    encoder = DenseNetEncoder((3, 32, 32), out_channels=32)
    shapes = []
    for module in encoder.net:
        if isinstance(module, nn.Conv2d | DenseStep):
            module.register_forward_hook(lambda _m, _i, out: shapes.append(tuple(out.shape[1:])))
    features = encoder(torch.rand(2, 3, 32, 32))
    assert shapes == [
        (18, 32, 32), (33, 32, 32), (48, 32, 32), (48, 16, 16),
        (64, 16, 16), (80, 16, 16), (96, 16, 16), (96, 8, 8),
        *((96 + 16 * step, 8, 8) for step in range(1, 7)), (96, 8, 8), (32, 8, 8),
    ]  # fmt: skip
    assert features.shape[1:] == encoder.feature_shape == (32, 8, 8)
    steps = [m for m in encoder.net if isinstance(m, DenseStep)]
    assert [s.narrow.out_channels for s in steps] == 3 * [60] + 9 * [64]


def test_computes_the_dense_formula():
    encoder = DenseNetEncoder((2, 6, 5), **SMALL, out_channels=4).double()
    x = torch.randn(3, 2, 6, 5, dtype=torch.float64)
    encoder.initialize(x)

    def conv(layer, h, stride=1):
        v, g = layer.parametrizations.weight.original1, layer.parametrizations.weight.original0
        weight = g * v / (v.flatten(1).norm(dim=1) + 1e-8).view(-1, 1, 1, 1)
        return functional.conv2d(h, weight, layer.bias, stride, padding=layer.kernel_size[0] // 2)

    def dense(step, h):
        return functional.elu(torch.cat([h, conv(step.widen, functional.elu(conv(step.narrow, h)))], 1))

    first, between, _, second, third, wide, _, last = encoder.net
    h = functional.elu(conv(between, dense(first, x), 2))
    h = functional.elu(conv(wide, dense(third, dense(second, h))))
    torch.testing.assert_close(encoder(x), conv(last, h), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("event_shape", [(1, 28, 28), (3, 32, 32), (2, 5, 11)])
def test_any_size_and_gradients_reach_everything(event_shape):
    encoder = DenseNetEncoder(event_shape, **SMALL)
    assert supports(encoder, DataInitialized)
    encoder.initialize(torch.rand(20, *event_shape))
    h = encoder(torch.rand(4, *event_shape))
    assert h.shape == (4, *encoder.feature_shape)
    assert len(encoder.feature_shape) == 1
    (h * torch.randn_like(h)).sum().backward()
    for name, p in encoder.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().sum() > 0, name


def test_initialize_standardizes_every_convolution():
    encoder = DenseNetEncoder((3, 8, 8), **SMALL, out_channels=4)
    x = torch.rand(200, 3, 8, 8)
    encoder.initialize(x)
    outputs = []
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _m, _i, out: outputs.append(out.detach()))
    encoder(x)
    assert len(outputs) == 3 * 2 + 1 + 2
    for out in outputs:
        std, mean = torch.std_mean(out, (0, 2, 3), correction=0)
        torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-4, rtol=0)
        torch.testing.assert_close(std, torch.ones_like(std), atol=2e-3, rtol=0)


def test_a_spatial_latent_gets_the_maps_of_its_moments():
    encoder = config(**SMALL).build(BuildContext(DataSpec((3, 8, 8), "bytes"), latent_shape=(3, 4, 4)))
    assert encoder.feature_shape == (6, 4, 4)
    posterior = GaussianPosterior(encoder.feature_shape, (3, 4, 4), logvar_range=(-7, 7))
    x = torch.rand(50, 3, 8, 8)
    encoder.initialize(x)
    h = 20 * encoder(x)
    q = posterior(h)
    assert (q.batch_shape, q.event_shape) == ((50,), (3, 4, 4))
    assert torch.equal(q.mean, h[:, :3])
    assert torch.equal(q.logvar, h[:, 3:].clamp(-7, 7))
    assert (q.logvar == 7).any()


def test_a_flat_latent_gets_a_vector():
    encoder = config(**SMALL).build(BuildContext(DataSpec((3, 8, 8), "bytes"), latent_shape=(7,)))
    assert encoder.feature_shape == (5 * 4 * 4,)
    assert encoder(torch.rand(2, 3, 8, 8)).shape == (2, 80)


def test_maps_that_do_not_fit_the_latent_are_refused():
    encoder = config(**SMALL).build(BuildContext(DataSpec((3, 6, 6), "bytes"), latent_shape=(3, 4, 4)))
    with pytest.raises(ShapeError, match=r"model\.posterior\.latent_dim: .*\(6, 4, 4\), found \(6, 3, 3\)"):
        GaussianPosterior(encoder.feature_shape, (3, 4, 4))


def test_save_and_load(tmp_path):
    built = config(**SMALL, out_channels=3)
    assert type(built).model_validate_json(built.model_dump_json()) == built
    one, two = (built.build(BuildContext(DataSpec((1, 8, 8), "bytes"))) for _ in range(2))
    x = torch.rand(6, 1, 8, 8)
    one.initialize(x)
    torch.save(one.state_dict(), tmp_path / "state.pt")
    two.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(one(x), two(x))


def test_data_that_are_no_images_are_refused():
    with pytest.raises(ShapeError, match=r"model\.encoder: .*event shape \(100,\)"):
        config().build(BuildContext(DataSpec((100,), "real")))


def test_blocks_without_growth_are_refused():
    with pytest.raises(ValidationError, match=r"growth: found 2 values .* for 3 blocks"):
        config(growth=[15, 16])
    with pytest.raises(ConfigError, match=r"model\.encoder\.growth: found 2 values"):
        DenseNetEncoder((3, 32, 32), growth=(15, 16))


@pytest.mark.parametrize("fields", [{"growth": [], "steps": []}, {"features": 0}, {"steps": [3, 3, 0]}, {"depth": 3}])
def test_wrong_fields_are_refused(fields):
    with pytest.raises(ValidationError):
        config(**fields)
