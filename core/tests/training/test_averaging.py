from __future__ import annotations

import torch
from numpy.testing import assert_allclose
from torch import nn
from uncollapse.training import PolyakAverage


def parameter_module(value):
    module = nn.Module()
    module.weight = nn.Parameter(torch.as_tensor(value, dtype=torch.float64))
    module.register_buffer("count", torch.zeros(3, dtype=torch.float64))
    return module


def test_one_step_is_that_of_the_released_code(oracle):
    reference = oracle("mae_ema")
    inputs = reference["inputs"]
    module = parameter_module(inputs["shadow"])
    average = PolyakAverage(module, inputs["decay"])
    with torch.no_grad():
        module.weight.copy_(torch.as_tensor(inputs["param"]))
    average.update()
    expected = reference["expected"]["shadow_after"]
    assert_allclose(average.averages()["weight"], expected, rtol=reference["rtol"], atol=1e-10)


def test_average_starts_at_the_parameters_without_bias_correction():
    module = parameter_module([2.0])
    average = PolyakAverage(module, 0.9)
    average.update()
    assert average.averages()["weight"].item() == 2.0


def test_only_parameters_are_averaged():
    module = parameter_module([1.0])
    average = PolyakAverage(module, 0.9)
    module.count.add_(5)
    module.weight.data.mul_(2)
    average.update()
    merged = average.merged_into(module.state_dict())
    assert_allclose(merged["weight"], [1.1])
    assert merged["count"].tolist() == [5, 5, 5]


def test_swapping_in_restores_the_parameters_bit_for_bit():
    module = nn.Linear(5, 3)
    average = PolyakAverage(module, 0.9)
    with torch.no_grad():
        module.weight.add_(torch.randn_like(module.weight))
    average.update()
    before = module.weight.clone()
    with average.swapped_in():
        assert torch.equal(module.weight, average.averages()["weight"])
        assert not torch.equal(module.weight, before)
    assert torch.equal(module.weight, before)


def test_tied_parameters_are_averaged_once_and_stored_under_both_names():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[1].weight = module[0].weight
    average = PolyakAverage(module, 0.5)
    with torch.no_grad():
        module[0].weight.zero_()
    average.update()
    merged = average.merged_into(module.state_dict())
    assert torch.equal(merged["0.weight"], merged["1.weight"])
    assert not torch.equal(merged["1.weight"], module[1].weight)
