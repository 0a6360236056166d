"""The kit finds what is wrong with broken parts of a model, and names it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from uncollapse.config import BuildContext, EncoderConfig, MomentTransformConfig, PosteriorConfig, PriorConfig
from uncollapse.distributions import DiagonalNormal

Failing = Callable[..., set[str]]


# ------------------------------------------------------------------------------------------------------------- encoder


class SoundEncoder(nn.Module):
    def __init__(self, context: BuildContext) -> None:
        super().__init__()
        self.feature_shape = (5,)
        self.net = nn.Linear(math.prod(context.data.event_shape), 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.flatten(1))


class WrongShape(SoundEncoder):
    def __init__(self, context: BuildContext) -> None:
        super().__init__(context)
        self.feature_shape = (6,)


class DeadParameter(SoundEncoder):
    def __init__(self, context: BuildContext) -> None:
        super().__init__(context)
        self.unused = nn.Parameter(torch.zeros(3))


class SubtractsBatchMax(SoundEncoder):
    def forward(self, x: Tensor) -> Tensor:
        h = super().forward(x)
        return h - 0.5 * h.amax(0)


class NeverStopsDropping(SoundEncoder):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(x), 0.5, training=True)


class NotFinite(SoundEncoder):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).log()


class ForgetsState(SoundEncoder):
    def __init__(self, context: BuildContext) -> None:
        super().__init__(context)
        self.register_buffer("scale", torch.rand(5), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale


@pytest.mark.parametrize(
    ("encoder", "expected"),
    [
        (SoundEncoder, set()),
        (WrongShape, {"encoder_shape"}),
        (DeadParameter, {"encoder_gradients"}),
        (SubtractsBatchMax, {"encoder_batch_order"}),
        (NeverStopsDropping, {"encoder_batch_order", "encoder_deterministic", "encoder_state_round_trip"}),
        (ForgetsState, {"encoder_state_round_trip"}),
    ],
)
def test_encoder(encoder: Any, expected: set[str], failing: Failing) -> None:
    assert failing(EncoderConfig, encoder) == expected


def test_encoder_that_is_not_finite(failing: Failing) -> None:
    assert "encoder_finite" in failing(EncoderConfig, NotFinite)


# ----------------------------------------------------------------------------------------------------------- posterior


class SoundPosterior(nn.Module):
    def __init__(self, context: BuildContext) -> None:
        super().__init__()
        self.latent_shape = context.latent_shape
        self.head = nn.Linear(math.prod(context.feature_shape), 2 * context.latent_size)

    def moments(self, h: Tensor) -> tuple[Tensor, Tensor]:
        mean, logvar = self.head(h.flatten(1)).chunk(2, 1)
        return mean, logvar

    def forward(self, h: Tensor, progress: object = None) -> Any:
        return DiagonalNormal(*self.moments(h))


class BatchOfDimensions(SoundPosterior):
    def forward(self, h: Tensor, progress: object = None) -> Any:
        mean, logvar = self.moments(h)
        return Normal(mean, (0.5 * logvar).exp(), validate_args=False)


class Detached(DiagonalNormal):
    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return super().rsample(sample_shape).detach()

    def rsample_and_log_prob(self, sample_shape: Any = ()) -> tuple[Tensor, Tensor]:
        z = self.rsample(sample_shape)
        return z, self.log_prob(z)


class DetachedSamples(SoundPosterior):
    def forward(self, h: Tensor, progress: object = None) -> Any:
        return Detached(*self.moments(h))


class ForgetsScale(DiagonalNormal):
    def rsample_and_log_prob(self, sample_shape: Any = ()) -> tuple[Tensor, Tensor]:
        z, log_q = super().rsample_and_log_prob(sample_shape)
        return z, log_q + 0.5 * self.logvar.sum(-1)


class InconsistentDensity(SoundPosterior):
    def forward(self, h: Tensor, progress: object = None) -> Any:
        return ForgetsScale(*self.moments(h))


class WithoutConstant(DiagonalNormal):
    """As several released codes have it: no ``-D/2 log 2π``."""

    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value) + 0.5 * value.shape[-1] * math.log(2 * math.pi)

    def rsample_and_log_prob(self, sample_shape: Any = ()) -> tuple[Tensor, Tensor]:
        z = self.rsample(sample_shape)
        return z, self.log_prob(z)


class Unnormalised(SoundPosterior):
    def forward(self, h: Tensor, progress: object = None) -> Any:
        return WithoutConstant(*self.moments(h))


class StandardisedOverBatch(SoundPosterior):
    def forward(self, h: Tensor, progress: object = None) -> Any:
        mean, logvar = self.moments(h)
        return DiagonalNormal(mean / (1 + mean.abs().mean(0)), logvar)


@pytest.mark.parametrize(
    ("posterior", "expected"),
    [
        (SoundPosterior, set()),
        (DetachedSamples, {"posterior_gradients"}),
        (InconsistentDensity, {"posterior_density"}),
        (Unnormalised, {"posterior_unit_mass"}),
        (StandardisedOverBatch, {"posterior_batch_order"}),
    ],
)
def test_posterior(posterior: Any, expected: set[str], failing: Failing) -> None:
    shape = property(lambda self: (self.latent_dim,))
    assert failing(PosteriorConfig, posterior, latent_dim=4, latent_shape=shape) == expected


def test_posterior_with_dimensions_in_the_batch(failing: Failing) -> None:
    assert "posterior_shape" in failing(PosteriorConfig, BatchOfDimensions, latent_shape=property(lambda self: (4,)))


# ---------------------------------------------------------------------------------------------------- moment transform


class SoundTransform(nn.Module):
    def __init__(self, context: BuildContext) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(context.latent_shape))

    def forward(self, mean: Tensor, logvar: Tensor, progress: object = None) -> tuple[Tensor, Tensor]:
        return mean * self.scale, logvar


class DropsDimensions(SoundTransform):
    def forward(self, mean: Tensor, logvar: Tensor, progress: object = None) -> tuple[Tensor, Tensor]:
        return (mean * self.scale)[:, :1], logvar[:, :1]


class DetachesMean(SoundTransform):
    def forward(self, mean: Tensor, logvar: Tensor, progress: object = None) -> tuple[Tensor, Tensor]:
        return mean.detach() * self.scale, logvar


class BatchStatisticsInEvaluation(SoundTransform):
    def forward(self, mean: Tensor, logvar: Tensor, progress: object = None) -> tuple[Tensor, Tensor]:
        return (mean - mean.mean(0)) * self.scale, logvar


class LosesRunningMean(SoundTransform):
    def __init__(self, context: BuildContext) -> None:
        super().__init__(context)
        self.register_buffer("running", torch.zeros(context.latent_shape), persistent=False)

    def forward(self, mean: Tensor, logvar: Tensor, progress: object = None) -> tuple[Tensor, Tensor]:
        if self.training:
            self.running.lerp_(mean.detach().mean(0), 0.5)
        return (mean - self.running) * self.scale, logvar


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (SoundTransform, set()),
        (DetachesMean, {"moments_gradients"}),
        (BatchStatisticsInEvaluation, {"moments_batch_order"}),
        (LosesRunningMean, {"moments_state_round_trip"}),
    ],
)
def test_moment_transform(transform: Any, expected: set[str], failing: Failing) -> None:
    assert failing(MomentTransformConfig, transform) == expected


def test_moment_transform_that_drops_dimensions(failing: Failing) -> None:
    assert "moments_shape" in failing(MomentTransformConfig, DropsDimensions)


# --------------------------------------------------------------------------------------------------------------- prior


class MixturePrior(nn.Module):
    """Sound: a mixture of three Gaussians."""

    def __init__(self, context: BuildContext) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.randn(3, *context.latent_shape))

    def forward(self) -> Any:
        parts = Independent(Normal(self.means, 1.0, validate_args=False), self.means.dim() - 1)
        return MixtureSameFamily(Categorical(logits=self.means.new_zeros(3)), parts, validate_args=False)


class BatchedPrior(MixturePrior):
    def forward(self) -> Any:
        return Normal(self.means[0], 1.0, validate_args=False)


class WithoutWeights(MixtureSameFamily):
    """The sum over components without ``1/K``."""

    def log_prob(self, x: Tensor) -> Tensor:
        return super().log_prob(x) + math.log(3)


class UnnormalisedPrior(MixturePrior):
    def forward(self) -> Any:
        sound = super().forward()
        return WithoutWeights(sound.mixture_distribution, sound.component_distribution, validate_args=False)


class FirstComponentOnly(MixtureSameFamily):
    """A sampler that always takes one component, as one released code's does."""

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self.component_distribution.sample(sample_shape)[..., 0, :]


class PoorSampler(MixturePrior):
    def __init__(self, context: BuildContext) -> None:
        super().__init__(context)
        self.means.data.mul_(4)

    def forward(self) -> Any:
        sound = super().forward()
        return FirstComponentOnly(sound.mixture_distribution, sound.component_distribution, validate_args=False)


class DetachedPrior(MixturePrior):
    def forward(self) -> Any:
        return Independent(Normal(self.means[0].detach(), 1.0, validate_args=False), self.means.dim() - 1)


@pytest.mark.parametrize(
    ("prior", "expected"),
    [
        (MixturePrior, set()),
        (UnnormalisedPrior, {"prior_unit_mass"}),
        (DetachedPrior, {"prior_gradients"}),
    ],
)
def test_prior(prior: Any, expected: set[str], failing: Failing) -> None:
    assert failing(PriorConfig, prior) == expected


@pytest.mark.parametrize(("prior", "check"), [(BatchedPrior, "prior_shape"), (PoorSampler, "prior_unit_mass")])
def test_prior_with_several_faults(prior: Any, check: str, failing: Failing) -> None:
    assert check in failing(PriorConfig, prior)
