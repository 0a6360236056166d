"""Reconstruction error on decoders with a known answer."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.distributions import Distribution
from uncollapse import Batch, DataSpec, DiagonalNormal
from uncollapse.config import BuildContext
from uncollapse.errors import ConfigError
from uncollapse_measures.estimators import ReconstructionError
from uncollapse_measures.estimators.reconstruction_error import ReconstructionErrorConfig


class Shift(nn.Module):
    """``p(x|z)`` around ``z + 2``; without a mean in closed form if ``blind``."""

    def __init__(self, blind=False):
        super().__init__()
        self.blind, self.calls = blind, 0

    def forward(self, z):
        self.calls += len(z)
        return _Blind(z + 2) if self.blind else DiagonalNormal(z + 2, torch.zeros_like(z))


class _Blind(Distribution):
    arg_constraints = {}  # noqa: RUF012

    def __init__(self, value):
        self.value = value
        super().__init__(value.shape[:1], value.shape[1:], validate_args=False)

    def sample(self, sample_shape=()):
        return self.value + 1


def _batches(n, size):
    return lambda: iter([Batch(x) for x in torch.arange(float(n))[:, None].split(size)])


def _identity(i):
    return DiagonalNormal(i.float()[:, None], torch.zeros(len(i), 1))


@pytest.mark.parametrize(("blind", "error", "how"), [(False, 4.0, "mean of p"), (True, 9.0, "one sample of p")])
def test_squared_distance_from_the_reconstruction(with_posterior, blind, error, how):
    model = with_posterior(_identity, (1,), decoder=Shift(blind))
    found = ReconstructionError()(model, _batches(10, 4))["reconstruction_error"]
    assert found.value == pytest.approx(error)
    assert found.count == 10
    assert how in found.note
    assert "summed over" in found.unit


def test_only_the_first_examples(with_posterior):
    decoder = Shift()
    model = with_posterior(_identity, (1,), decoder=decoder)
    assert ReconstructionError(examples=6)(model, _batches(20, 4))["reconstruction_error"].count == 6
    assert decoder.calls == 6
    assert ReconstructionError(examples=None)(model, _batches(20, 4))["reconstruction_error"].count == 20


def test_values_are_summed_over_the_event(with_posterior):
    make = lambda i: DiagonalNormal(torch.zeros(len(i), 1), torch.zeros(len(i), 1))  # noqa: E731
    model = with_posterior(make, (1,), decoder=_Zeros())
    found = ReconstructionError()(model, lambda: iter([Batch(torch.full((3, 2, 2), 2.0).flatten(1))]))
    assert found["reconstruction_error"].value == pytest.approx(16.0)


class _Zeros(nn.Module):
    def forward(self, z):
        return DiagonalNormal(torch.zeros(len(z), 4), torch.zeros(len(z), 4))


def test_tokens_have_no_distance():
    with pytest.raises(ConfigError, match="tokens do not have"):
        ReconstructionErrorConfig().build(BuildContext(DataSpec((8,), "tokens", vocabulary_size=5)))
