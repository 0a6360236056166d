"""Samplers on a model whose draws have known moments."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.distributions import Distribution
from uncollapse import DataSpec, DiagonalNormal, LatentVariableModel
from uncollapse.capabilities import supports
from uncollapse.config import BuildContext
from uncollapse.errors import ConfigError
from uncollapse.protocols import ReportsProgress
from uncollapse.samplers import AncestralSampler, AncestralSamplerConfig
from uncollapse_latents.samplers import ScaledGaussianSampler, ScaledGaussianSamplerConfig


class Prior(nn.Module):
    """``N(3, 0.25)`` in two dimensions."""

    def forward(self):
        return DiagonalNormal(torch.full((2,), 3.0), torch.full((2,), -1.3863))


class Double(nn.Module):
    """``p(x|z) = N(2z, 4)``, values in a ``(1, 2)`` image; it writes down the size of its batches."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.calls = []
        self.dropout = nn.Dropout(0.5)

    def forward(self, z):
        self.calls.append(len(z))
        mean = self.dropout(self.scale * z)[:, None]
        return DiagonalNormal(mean, torch.full_like(mean, 1.3863), 2)


class Posterior(nn.Module):
    latent_shape = (2,)


@pytest.fixture
def model():
    return LatentVariableModel(nn.Identity(), Posterior(), Prior(), Double())


def _moments(x):
    return x.mean().item(), x.var().item()


def test_ancestral_draws_from_prior_and_likelihood(model):
    x = AncestralSampler()(model, 20000)
    assert x.shape == (20000, 1, 2)
    assert not x.requires_grad
    assert _moments(x) == pytest.approx((6.0, 4 * 0.25 + 4.0), rel=0.03)


def test_means_leave_out_the_likelihoods_noise(model):
    assert _moments(AncestralSampler(means=True)(model, 20000)) == pytest.approx((6.0, 1.0), rel=0.03)


def test_scaled_gaussian_ignores_the_prior(model):
    x = ScaledGaussianSampler(scale=0.5, means=True)(model, 20000)
    mean, variance = _moments(x)
    assert abs(mean) < 0.03
    assert variance == pytest.approx(4 * 0.25, rel=0.03)


@pytest.mark.parametrize("sampler", [AncestralSampler(max_batch=4), ScaledGaussianSampler(max_batch=4)])
def test_a_few_at_a_time_in_evaluation_mode(model, sampler):
    model.train()
    assert sampler(model, 10).shape == (10, 1, 2)
    assert model.decoder.calls == [4, 4, 2]
    assert model.decoder.dropout.training


@pytest.mark.parametrize("sampler", [AncestralSampler, ScaledGaussianSampler])
def test_progress_counts_batches_and_what_a_distribution_reports(model, sampler):
    class InHalves(DiagonalNormal):
        progress = None

        def sample(self, sample_shape=()):
            self.progress(0.5)
            self.progress(1.0)
            return super().sample(sample_shape)

    halves = lambda z: InHalves(z[:, None], torch.zeros_like(z)[:, None], 2)  # noqa: E731
    shares = []
    draw = sampler(max_batch=4)
    assert supports(draw, ReportsProgress)
    draw.progress = shares.append
    draw(model, 10)
    assert shares == pytest.approx([0.4, 0.8, 1.0])
    shares.clear()
    draw(LatentVariableModel(nn.Identity(), Posterior(), Prior(), halves), 10)
    assert shares == pytest.approx([0.2, 0.4, 0.4, 0.6, 0.8, 0.8, 0.9, 1.0, 1.0])


class NoMean(Distribution):
    arg_constraints = {}  # noqa: RUF012

    def sample(self, sample_shape=()):
        return torch.zeros((*self.batch_shape, 3))


class Autoregressive(nn.Module):
    def forward(self, z):
        return NoMean(z.shape[:1], torch.Size((3,)), validate_args=False)


@pytest.mark.parametrize("sampler", [AncestralSampler, ScaledGaussianSampler])
def test_means_of_a_decoder_without_any_are_an_error(sampler):
    model = LatentVariableModel(nn.Identity(), Posterior(), Prior(), Autoregressive())
    assert sampler()(model, 3).shape == (3, 3)
    with pytest.raises(ConfigError, match=r"\.means: NoMean has no mean in closed form"):
        sampler(means=True)(model, 3)


def test_configs_build(model):
    context = BuildContext(DataSpec((1, 2), "real"))
    for config in (AncestralSamplerConfig, ScaledGaussianSamplerConfig):
        x = config(means=True, max_batch=3).build(context)(model, 5)
        assert x.shape == (5, 1, 2)
        assert config.model_validate_json(config().model_dump_json()) == config()
    with pytest.raises(ValueError, match="scale"):
        ScaledGaussianSamplerConfig(scale=0)
