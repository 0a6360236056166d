import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional
from uncollapse.capabilities import supports
from uncollapse.config import BuildContext
from uncollapse.errors import ShapeError
from uncollapse.plugins import registry
from uncollapse.protocols import DataInitialized, DataSpec
from uncollapse_images.encoders import ResNetEncoder
from uncollapse_images.encoders.resnet import ResidualBlock

SMALL = {"widths": (4, 6), "features": 10}


def config(**fields):
    return registry().find("encoder", "resnet").model_validate({"type": "resnet", **fields})


def outputs_of(network, kinds, run):
    seen = []
    handles = [
        m.register_forward_hook(lambda _m, _i, out: seen.append(out)) for m in network.modules() if isinstance(m, kinds)
    ]
    with torch.no_grad():
        run()
    for handle in handles:
        handle.remove()
    return seen


def test_default_is_maes():
    encoder = ResNetEncoder((1, 28, 28))
    maps = outputs_of(encoder, ResidualBlock, lambda: encoder(torch.rand(2, 1, 28, 28)))
    assert [m.shape[1:] for m in maps] == [(32, 14, 14), (64, 7, 7), (64, 4, 4)]
    assert encoder.feature_shape == (512,)

    def conv(before, after, kernel):
        return before * after * kernel * kernel + 2 * after  # directions, gains, biases

    blocks = sum(conv(b, a, 3) + conv(a, a, 3) + conv(b, a, 1) for b, a in ((1, 32), (32, 64), (64, 64)))
    assert sum(p.numel() for p in encoder.parameters()) == blocks + conv(64, 512, 4)


def test_computes_the_residual_formula():
    encoder = ResNetEncoder((2, 9, 6), **SMALL).double()
    x = torch.randn(3, 2, 9, 6, dtype=torch.float64)

    def conv(layer, h, stride, padding):
        v, g = layer.parametrizations.weight.original1, layer.parametrizations.weight.original0
        weight = g * v / (v.flatten(1).norm(dim=1) + 1e-8).view(-1, 1, 1, 1)
        return functional.conv2d(h, weight, layer.bias, stride, padding)

    encoder.initialize(x)
    h = x
    for block in encoder.net[:2]:
        inner = functional.elu(conv(block.first, h, 2, 1))
        h = functional.elu(conv(block.second, inner, 1, 1) + conv(block.shortcut, h, 2, 0))
    expected = functional.elu(conv(encoder.net[2], h, 1, 0)).flatten(1)
    torch.testing.assert_close(encoder(x), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("normalization", ["weight", "batch"])
@pytest.mark.parametrize("event_shape", [(1, 28, 28), (3, 32, 32), (1, 8, 8), (2, 5, 11)])
def test_any_size_and_gradients_reach_everything(event_shape, normalization):
    encoder = ResNetEncoder(event_shape, **SMALL, normalization=normalization)
    h = encoder(torch.rand(4, *event_shape))
    assert h.shape == (4, *encoder.feature_shape) == (4, 10)
    (h * torch.randn_like(h)).sum().backward()
    for name, p in encoder.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().sum() > 0, name


def test_initialize_standardizes_every_convolution():
    encoder = ResNetEncoder((1, 28, 28), **SMALL)
    x = (torch.rand(200, 1, 28, 28) < torch.rand(200, 1, 1, 1)).float()
    assert supports(encoder, DataInitialized)
    encoder.initialize(x)
    outputs = outputs_of(encoder, nn.Conv2d, lambda: encoder(x))
    assert len(outputs) == 7
    for out in outputs:
        per_channel = out.movedim(1, 0).flatten(1)
        torch.testing.assert_close(per_channel.mean(1), torch.zeros(out.shape[1]), atol=1e-4, rtol=0)
        torch.testing.assert_close(per_channel.std(1), torch.ones(out.shape[1]), atol=0, rtol=5e-3)


def test_batch_normalization_is_untouched_by_initialize():
    encoder = ResNetEncoder((1, 8, 8), **SMALL, normalization="batch")
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    encoder.initialize(torch.rand(5, 1, 8, 8))
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    norms = [m for m in encoder.modules() if isinstance(m, nn.BatchNorm2d)]
    convs = [m for m in encoder.modules() if isinstance(m, nn.Conv2d)]
    assert len(norms) == len(convs) == 7
    assert all(c.bias is None for c in convs)


def test_weight_normalization_is_the_same_in_training_and_evaluation():
    encoder = ResNetEncoder((1, 8, 8), **SMALL)
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(encoder.train()(x), encoder.eval()(x))


@pytest.mark.parametrize("normalization", ["weight", "batch"])
def test_save_and_load(normalization, tmp_path):
    built = config(widths=[3], features=5, normalization=normalization)
    assert type(built).model_validate_json(built.model_dump_json()) == built
    one, two = (built.build(BuildContext(DataSpec((1, 8, 8), "binary"))) for _ in range(2))
    x = torch.rand(6, 1, 8, 8)
    one.initialize(x)
    one.train()(x)
    torch.save(one.state_dict(), tmp_path / "state.pt")
    two.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(one.eval()(x), two.eval()(x))


def test_data_that_are_no_images_are_refused():
    with pytest.raises(ShapeError, match=r"model\.encoder: .*event shape \(100,\)"):
        config().build(BuildContext(DataSpec((100,), "tokens")))


@pytest.mark.parametrize("fields", [{"widths": []}, {"features": 0}, {"normalization": "layer"}, {"depth": 3}])
def test_wrong_fields_are_refused(fields):
    with pytest.raises(ValidationError):
        config(**fields)
