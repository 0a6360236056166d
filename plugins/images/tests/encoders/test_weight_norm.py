"""Weight normalization: eq. 2 and eq. 6 of Salimans and Kingma (2016)."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from uncollapse_images.weight_norm import WeightNorm, initialize_from_data, weight_normalized

LAYERS = {
    "linear": (lambda: nn.Linear(5, 4), (64, 5), -1),
    "conv": (lambda: nn.Conv2d(2, 4, 3, stride=2), (16, 2, 9, 9), 1),
    "transposed": (lambda: nn.ConvTranspose2d(2, 4, 3, stride=2, output_padding=1), (16, 2, 5, 5), 1),
}


@pytest.fixture(params=LAYERS)
def kind(request):
    return request.param


def test_effective_weight_is_torchs(kind):
    make = LAYERS[kind][0]
    ours = weight_normalized(make())
    theirs = make()
    dim = 1 if kind == "transposed" else 0
    parametrizations.weight_norm(theirs, dim=dim)
    with torch.no_grad():
        ours.parametrizations.weight.original0.mul_(torch.rand_like(ours.parametrizations.weight.original0) + 0.5)
        theirs.parametrizations.weight.original0.copy_(ours.parametrizations.weight.original0)
        theirs.parametrizations.weight.original1.copy_(ours.parametrizations.weight.original1)
    torch.testing.assert_close(ours.weight, theirs.weight)
    other_dims = [d for d in range(ours.weight.dim()) if d != dim]
    gains = ours.parametrizations.weight.original0.flatten()
    torch.testing.assert_close(ours.weight.square().sum(other_dims).sqrt(), gains)


def test_starts_small_with_zero_bias():
    layer = weight_normalized(nn.Linear(400, 100))
    assert layer.weight.std().item() == pytest.approx(0.05, rel=0.05)
    assert (layer.bias == 0).all()


def test_masked_log_gain_by_hand():
    norm = WeightNorm(0, mask=torch.tensor([[True, True, False], [False, False, False]]), log_gain=True)
    direction = torch.tensor([[3.0, 4.0, 100.0], [1.0, 1.0, 1.0]])
    weight = norm(torch.tensor([[10.0], [7.0]]).log(), direction)
    torch.testing.assert_close(weight, torch.tensor([[6.0, 8.0, 0.0], [0.0, 0.0, 0.0]]))


def test_wholly_masked_channel_has_finite_gradients():
    layer = weight_normalized(nn.Linear(3, 2), mask=torch.tensor([[True] * 3, [False] * 3]), log_gain=True)
    layer(torch.randn(7, 3)).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("log_gain", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_outputs_are_standardized(kind, log_gain, scale):
    make, shape, channel = LAYERS[kind]
    layer = weight_normalized(make(), log_gain=log_gain)
    nn.init.normal_(layer.bias)
    direction = layer.parametrizations.weight.original1.clone()
    x = 3 + 2 * torch.randn(shape)
    initialize_from_data(layer, lambda: layer(x), scale)
    out = layer(x).movedim(channel, 0).flatten(1)
    torch.testing.assert_close(out.mean(1), torch.zeros(4), atol=1e-5 * scale + 1e-6, rtol=0)
    torch.testing.assert_close(out.std(1, correction=0), torch.full((4,), scale), rtol=1e-3, atol=0)
    assert torch.equal(layer.parametrizations.weight.original1, direction)


def test_one_pass_initializes_a_chain_and_only_normalized_layers():
    plain = nn.Linear(8, 8)
    net = nn.Sequential(weight_normalized(nn.Linear(5, 8)), nn.ELU(), plain, weight_normalized(nn.Linear(8, 3)))
    before, passes = copy.deepcopy(plain.state_dict()), []
    x = torch.randn(50, 5)

    def run():
        passes.append(1)
        net(x)

    initialize_from_data(net, run)
    assert len(passes) == 1
    for cut in (1, 4):
        out = net[:cut](x)
        torch.testing.assert_close(out.mean(0), torch.zeros(out.shape[1]), atol=1e-5, rtol=0)
        torch.testing.assert_close(out.std(0, correction=0), torch.ones(out.shape[1]), rtol=1e-4, atol=0)
    assert all(torch.equal(plain.state_dict()[k], v) for k, v in before.items())
    # No hook stays behind to standardize other data.
    assert net(torch.zeros(50, 5)).std(0).max() < 1e-6


def test_only_the_first_use_of_a_shared_layer_counts():
    layer = weight_normalized(nn.Linear(4, 4))
    x = torch.randn(100, 4)
    initialize_from_data(layer, lambda: layer(layer(x) * 5))
    torch.testing.assert_close(layer(x).std(0, correction=0), torch.ones(4), rtol=1e-4, atol=0)


def test_constant_channel_keeps_its_gain_and_is_centred():
    layer = weight_normalized(nn.Linear(4, 3))
    gain = layer.parametrizations.weight.original0.clone()
    x = torch.ones(10, 4)
    initialize_from_data(layer, lambda: layer(x))
    assert torch.equal(layer.parametrizations.weight.original0, gain)
    torch.testing.assert_close(layer(x), torch.zeros(10, 3), atol=1e-6, rtol=0)


def test_layer_without_bias_is_scaled_only():
    layer = weight_normalized(nn.Linear(4, 3, bias=False))
    x = torch.randn(100, 4) + 1
    mean, std = layer(x).mean(0), layer(x).std(0, correction=0)
    initialize_from_data(layer, lambda: layer(x))
    torch.testing.assert_close(layer(x).mean(0), mean / std, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(layer(x).std(0, correction=0), torch.ones(3), rtol=1e-4, atol=0)


def test_network_without_normalized_layers_is_not_run():
    initialize_from_data(nn.Linear(2, 2), lambda: pytest.fail("ran"))


def test_survives_copy_and_save(kind):
    make, shape, _ = LAYERS[kind]
    layer, x = weight_normalized(make()), torch.randn(shape)
    initialize_from_data(layer, lambda: layer(x))
    other = weight_normalized(make())
    other.load_state_dict(layer.state_dict())
    assert torch.equal(layer(x), other(x))
    assert torch.equal(layer(x), copy.deepcopy(layer)(x))


def test_what_cannot_be_normalized_is_refused():
    with pytest.raises(TypeError, match="found BatchNorm2d"):
        weight_normalized(nn.BatchNorm2d(3))
    with pytest.raises(TypeError, match="groups=1"):
        weight_normalized(nn.ConvTranspose2d(4, 4, 3, groups=2))


def test_a_layer_s_own_scale_multiplies_that_of_all():
    net = nn.Sequential(weight_normalized(nn.Linear(5, 8)), weight_normalized(nn.Linear(8, 3), output_scale=0.1))
    x = torch.randn(50, 5)
    initialize_from_data(net, lambda: net(x), 0.5)
    torch.testing.assert_close(net[0](x).std(0, correction=0), torch.full((8,), 0.5), rtol=1e-3, atol=0)
    torch.testing.assert_close(net(x).std(0, correction=0), torch.full((3,), 0.05), rtol=1e-3, atol=0)
