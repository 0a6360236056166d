import pytest
import torch
from torch.autograd.functional import jacobian
from uncollapse_latents.flows import MADE
from uncollapse_latents.flows.made import made_degrees

CASES = [(2, 6, 1), (4, 8, 1), (5, 10, 2), (6, 3, 1), (3, 7, 3), (9, 1, 1)]


@pytest.mark.parametrize("weight_norm", [True, False])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("features", "hidden", "layers"), CASES)
def test_outputs_depend_on_predecessors_and_on_all_of_them(features, hidden, layers, reverse, weight_norm):
    net = MADE(features, hidden, layers, reverse, weight_norm).double()
    found = sum(
        jacobian(net, torch.randn(features, dtype=torch.float64)).abs() for _ in range(20)
    )  # a ReLU may be off at one point
    predecessor = torch.ones(features, features).tril(-1).bool()
    if reverse:
        predecessor = predecessor.T
    assert torch.equal(found > 0, predecessor)


def test_masks_are_those_of_the_released_code(oracle):
    for case in oracle("mae_af_prior")["inputs"].values():
        for direction, reverse in (("fwd", False), ("bwd", True)):
            net = MADE(int(case["D"]), int(case["hidden"]), int(case["num_hidden_layers"]), reverse)
            names = ["input_layer", *(f"hidden_layers.{i}" for i in range(int(case["num_hidden_layers"]) - 1))]
            ours = [*net.layers, net.skip]
            theirs = [
                case["layers"][f"blocks.0.{direction}.mu.{n}"] for n in (*names, "output_layer", "direct_connect")
            ]
            for layer, expected in zip(ours, theirs, strict=True):
                assert torch.equal(layer.mask, torch.from_numpy(expected["mask"]).bool())


@pytest.mark.parametrize("features", range(2, 40))
def test_degrees_stay_below_the_number_of_features(features):
    for hidden in (1, features - 1, 10 * features):
        degrees = made_degrees(features, hidden)
        assert degrees.min() >= 1
        assert degrees.max() == features - 1
        assert (degrees.diff() >= 0).all()


@pytest.mark.parametrize("weight_norm", [True, False])
def test_gradients_reach_everything_and_are_finite(weight_norm):
    net = MADE(4, 12, 2, weight_norm=weight_norm)
    net(torch.randn(30, 4)).square().sum().backward()
    for name, p in net.named_parameters():
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().sum() > 0, name


def test_one_feature_has_a_constant_output():
    net = MADE(1, 10)
    out = net(torch.randn(2, 3, 1))
    assert out.shape == (2, 3, 1)
    assert (out == out.flatten()[0]).all()
    assert [n for n, _ in net.named_parameters()] == ["constant"]
