"""The chain on a linear Gaussian model, whose stationary distribution is known."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from uncollapse import Batch, DiagonalNormal, LatentVariableModel
from uncollapse.capabilities import supports
from uncollapse.config import BuildContext
from uncollapse.distributions import standard_normal
from uncollapse.errors import ConfigError, DataError
from uncollapse.protocols import DataSpec, NeedsTrainingData
from uncollapse_infovae import MarkovChainSampler, MarkovChainSamplerConfig

# x|z ~ N(C, (W z, S²)), z|x ~ N(A (x - C), V²): the chain of x is autoregressive with factor W A.
A, C, S, V, W = 0.5, 3.0, 0.6, 0.4, 1.2
FACTOR = W * A
STATIONARY = math.sqrt((W**2 * V**2 + S**2) / (1 - FACTOR**2))


class Linear(nn.Module):
    feature_shape = (1,)
    latent_shape = (1,)

    def __init__(self, slope: float, offset: float, std: float | None) -> None:
        super().__init__()
        self.slope, self.offset, self.std = slope, offset, std

    def forward(self, t: Tensor, progress: object = None) -> Any:
        mean = self.slope * t + self.offset
        return mean if self.std is None else DiagonalNormal(mean, torch.full_like(mean, 2 * math.log(self.std)))


class Prior(nn.Module):
    def forward(self) -> Distribution:
        return standard_normal((1,))


@pytest.fixture
def model() -> LatentVariableModel:
    return LatentVariableModel(Linear(1.0, -C, None), Linear(A, 0.0, V), Prior(), Linear(W, C, S))


def batches() -> Iterable[Batch]:
    for start in (0.0, 4.0):
        yield Batch(100 + start + torch.arange(4.0)[:, None])


def test_stationary_distribution(model: LatentVariableModel) -> None:
    """From data as far off as 100, and independent of the prior, whose ``p(x)`` is wider."""
    sampler = MarkovChainSampler(burn_in=30, start="data", chains=800, thin=6, max_batch=1000)
    sampler.prepare(lambda: [Batch(torch.full((800, 1), 100.0))])
    x = sampler(model, 24_000)
    assert x.shape == (24_000, 1)
    assert abs(x.mean().item() - C) < 4 * STATIONARY / math.sqrt(24_000)
    assert abs(x.std().item() / STATIONARY - 1) < 0.03
    assert math.sqrt(W**2 + S**2) > 1.3 * STATIONARY, "ancestral samples are wider, so the test can tell"


@pytest.mark.parametrize("thin", [1, 3])
def test_samples_of_a_chain_follow_one_another(model: LatentVariableModel, thin: int) -> None:
    """Their correlation is the factor of the chain to the power of the steps between them."""
    x = MarkovChainSampler(burn_in=20, thin=thin, chains=50)(model, 20_000).reshape(50, 400)
    pairs = torch.stack([x[:, :-1].flatten(), x[:, 1:].flatten()])
    assert abs(torch.corrcoef(pairs)[0, 1].item() - FACTOR**thin) < 0.03


@pytest.mark.parametrize("burn_in", [0, 1, 4])
def test_every_step_of_the_burn_in_counts(model: LatentVariableModel, burn_in: int) -> None:
    """From the prior: the variance of step ``t`` follows from that of step 0, which ancestral sampling has."""
    expected = W**2 + S**2
    for _ in range(burn_in):
        expected = FACTOR**2 * expected + W**2 * V**2 + S**2
    x = MarkovChainSampler(burn_in=burn_in, max_batch=50_000)(model, 40_000)
    assert abs(x.var().item() / expected - 1) < 0.03


def test_samples_of_chains_of_their_own_are_independent(model: LatentVariableModel) -> None:
    x = MarkovChainSampler(burn_in=5)(model, 20_000)
    assert abs(torch.corrcoef(torch.stack([x[:-1, 0], x[1:, 0]]))[0, 1].item()) < 0.03


def test_means_leave_out_the_last_noise(model: LatentVariableModel) -> None:
    x = MarkovChainSampler(burn_in=20, means=True, max_batch=50_000)(model, 40_000)
    assert abs(x.var().item() / (STATIONARY**2 - S**2) - 1) < 0.03


def test_chains_start_from_data_in_their_order(model: LatentVariableModel) -> None:
    """One step from 100, 101, …: the code is exact enough to tell the examples apart."""
    for part in (model.posterior, model.decoder):
        part.std = 1e-4
    sampler = MarkovChainSampler(burn_in=1, start="data")
    sampler.prepare(batches)
    torch.testing.assert_close(sampler(model, 7)[:, 0], C + FACTOR * (97 + torch.arange(7.0)), atol=1e-2, rtol=0)


def test_any_number_of_samples(model: LatentVariableModel) -> None:
    sampler = MarkovChainSampler(burn_in=2, chains=4, max_batch=3)
    for count in (1, 4, 5, 11):
        assert sampler(model, count).shape == (count, 1)


def test_data_have_to_be_there(model: LatentVariableModel) -> None:
    sampler = MarkovChainSampler(burn_in=1, start="data")
    assert supports(sampler, NeedsTrainingData)
    with pytest.raises(ConfigError, match=r"start: data needs training examples; call prepare\(batches\) first"):
        sampler(model, 2)
    sampler.prepare(batches)
    with pytest.raises(DataError, match="9 chains start from training examples, but there are only 8; set chains"):
        sampler(model, 9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"burn_in": -1}, "burn_in must be at least 0.*found burn_in=-1"),
        ({"thin": 0}, "thin and chains at least 1; found .*thin=0"),
        ({"chains": 0}, "chains=0"),
        ({"start": "noise"}, "start must be one of prior, data"),
        ({"start": "data", "burn_in": 0}, "returns training examples"),
    ],
)
def test_impossible_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MarkovChainSampler(**options)
    with pytest.raises(ValueError, match=r"burn_in|thin|chains|start"):
        MarkovChainSamplerConfig(**options)


def test_config_builds_what_it_says() -> None:
    config = MarkovChainSamplerConfig(burn_in=7, thin=2, chains=3, start="data", means=True, max_batch=5)
    built = config.build(BuildContext(DataSpec((1,), "real")))
    assert {k: v for k, v in vars(built).items() if k != "_batches"} == config.model_dump(exclude={"type"})
