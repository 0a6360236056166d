"""BN-VAE: torch's batch normalization with a fixed scale, its bound, and the global batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from uncollapse.distributions import DiagonalNormal, kl_per_dimension, standard_normal
from uncollapse.errors import ShapeError
from uncollapse_baselines import BatchNormMeans

SCRIPT = Path(__file__).with_name("two_processes.py")


def pair(gamma: float, shape: tuple[int, ...] = (6,)):
    """Ours, and torch's with a fixed weight."""
    ours, torchs = BatchNormMeans(shape, gamma).double(), nn.BatchNorm1d(torch.Size(shape).numel()).double()
    nn.init.constant_(torchs.weight, gamma)
    with torch.no_grad():
        ours.beta.copy_(torch.randn_like(ours.beta))
        torchs.bias.copy_(ours.beta)
    return ours, torchs


@pytest.mark.parametrize("shape", [(6,), (2, 3, 4)])
def test_it_is_torch_s_with_a_fixed_weight(shape):
    ours, torchs = pair(0.7, shape)
    logvar = torch.randn(9, *shape, dtype=torch.float64)
    for _ in range(4):
        mean = (3 + 2 * torch.randn(9, *shape, dtype=torch.float64)).requires_grad_()
        twin = mean.detach().flatten(1).requires_grad_()
        found, same = ours(mean, logvar)
        expected = torchs(twin)
        torch.testing.assert_close(found.flatten(1), expected)
        assert same is logvar
        found.sin().sum().backward()
        expected.sin().sum().backward()
        torch.testing.assert_close(mean.grad.flatten(1), twin.grad)
    torch.testing.assert_close(ours.beta.grad, torchs.bias.grad)
    torch.testing.assert_close(ours.running_mean, torchs.running_mean)
    torch.testing.assert_close(ours.running_var, torchs.running_var)
    ours.eval()
    torchs.eval()
    torch.testing.assert_close(ours(mean, logvar)[0].flatten(1), torchs(mean.flatten(1)))


@pytest.mark.parametrize("gamma", [0.5, 0.6])
def test_the_rate_is_at_least_what_gamma_promises(gamma):
    # DU-VAE's table: 32 dimensions, at least 4.0 nats for 0.5 and 5.76 for 0.6.
    transform = BatchNormMeans((32,), gamma).double()
    mean = 0.1 * torch.randn(50, 32, dtype=torch.float64)
    promised = 32 * gamma**2 / 2
    for logvar in (torch.zeros_like(mean), torch.randn_like(mean)):
        rate = kl_per_dimension(DiagonalNormal(*transform(mean, logvar)), standard_normal((32,)))
        assert rate.mean(0).sum().item() >= promised * (1 - 2e-3)
    exact = kl_per_dimension(DiagonalNormal(*transform(1e3 * mean, torch.zeros_like(mean))), standard_normal((32,)))
    # At unit variances the bound is met; beta adds its square.
    assert exact.mean(0).sum().item() == pytest.approx(promised, rel=1e-6)
    with torch.no_grad():
        transform.beta.fill_(0.3)
    more = kl_per_dimension(DiagonalNormal(*transform(1e3 * mean, torch.zeros_like(mean))), standard_normal((32,)))
    assert more.mean(0).sum().item() == pytest.approx(32 * (gamma**2 + 0.09) / 2, rel=1e-6)


def test_gamma_is_not_learned():
    assert [name for name, _ in BatchNormMeans((4,)).named_parameters()] == ["beta"]


def test_a_single_example_has_no_statistics():
    transform = BatchNormMeans((4,))
    with pytest.raises(ShapeError, match="needs at least 2 examples a batch in training, found 1"):
        transform(torch.randn(1, 4), torch.zeros(1, 4))
    transform.eval()
    assert transform(torch.randn(1, 4), torch.zeros(1, 4))[0].shape == (1, 4)


def test_two_processes_normalize_the_global_batch(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    one, two = (torch.load(tmp_path / f"{world}.pt", weights_only=True) for world in (1, 2))
    assert one.keys() == two.keys() > {"loss", "beta", "running_mean", "head.weight"}
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-6, atol=1e-9)
