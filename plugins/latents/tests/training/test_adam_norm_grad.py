"""Adam on normalized gradients against the released code's numbers."""

from __future__ import annotations

import pytest
import torch
from numpy.testing import assert_allclose
from torch.testing import assert_close
from uncollapse.plugins import registry
from uncollapse_latents.optimizers import AdamNormGrad


def test_agrees_with_the_released_code(oracle):
    numbers = oracle("adam_norm_grad")
    given = numbers["inputs"]
    parameter = torch.nn.Parameter(torch.tensor(given["param0"], dtype=torch.float64))
    optimizer = AdamNormGrad([parameter], lr=given["lr"], betas=tuple(given["betas"]), eps=given["eps"])
    for gradient, expected in zip(given["grads"], numbers["expected"]["trajectory"], strict=True):
        parameter.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        assert_allclose(parameter.detach(), expected, rtol=numbers["rtol"], atol=1e-10)


def by_hand(parameter, gradients, lr, betas, eps, decay):
    """One parameter, step by step, as the released code writes it."""
    (b1, b2), mean, square = betas, torch.zeros_like(parameter), torch.zeros_like(parameter)
    for t, gradient in enumerate(gradients, start=1):
        g = gradient / (gradient.norm() + 1e-7) + decay * parameter
        mean = b1 * mean + (1 - b1) * g
        square = b2 * square + (1 - b2) * g * g
        size = lr * (1 - b2**t) ** 0.5 / (1 - b1**t)
        parameter = parameter - size * mean / (square.sqrt() + eps)
    return parameter


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_every_parameter_is_normalized_by_itself(decay):
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 2), (5,), ()]
    starts = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
    # Of very different sizes: one norm for all would leave the small ones still.
    sizes = (1e3, 1.0, 1e-6)
    gradients = [
        [k * torch.randn(s, generator=generator, dtype=torch.float64) for s, k in zip(shapes, sizes, strict=True)]
        for _ in range(4)
    ]
    parameters = [torch.nn.Parameter(s.clone()) for s in starts]
    unused = torch.nn.Parameter(torch.ones(2))
    options = {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-3}
    optimizer = AdamNormGrad([*parameters, unused], **options, weight_decay=decay)
    for step in gradients:
        for p, g in zip(parameters, step, strict=True):
            p.grad = g.clone()
        optimizer.step()
        assert all(torch.equal(p.grad, g) for p, g in zip(parameters, step, strict=True))
    for i, p in enumerate(parameters):
        expected = by_hand(starts[i], [step[i] for step in gradients], **options, decay=decay)
        assert_close(p.detach(), expected, rtol=1e-10, atol=1e-12)
    assert_close(unused.detach(), torch.ones(2), rtol=0, atol=0)


def test_a_zero_gradient_moves_nothing():
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = AdamNormGrad([parameter])
    parameter.grad = torch.zeros(3)
    optimizer.step()
    assert_close(parameter.detach(), torch.ones(3), rtol=0, atol=0)


def test_config():
    config = registry().find("optimizer", "adam_norm_grad").model_validate({"betas": [0.5, 0.9], "weight_decay": 0.01})
    optimizer = config.build([torch.nn.Parameter(torch.ones(1))])
    assert isinstance(optimizer, AdamNormGrad)
    group = optimizer.param_groups[0]
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (5e-4, (0.5, 0.9), 1e-8, 0.01)
