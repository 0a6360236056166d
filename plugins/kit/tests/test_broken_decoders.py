"""The kit finds what is wrong with broken decoders and likelihoods, and names it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal
from uncollapse.config import BuildContext, DecoderConfig, EncoderConfig, LikelihoodConfig
from uncollapse.likelihoods import BernoulliPixels
from uncollapse_kit.reference import Unigrams

Failing = Callable[..., set[str]]
BINARY = property(lambda self: frozenset({"binary"}))


class SoundDecoder(nn.Module):
    family: type[BernoulliPixels] = BernoulliPixels

    def __init__(self, context: BuildContext) -> None:
        super().__init__()
        self.event = context.data.event_shape
        self.latents = len(context.latent_shape)
        self.net = nn.Linear(context.latent_size, math.prod(self.event))

    def logits(self, z: Tensor) -> Tensor:
        logits = self.net(z.flatten(-self.latents)).unflatten(-1, self.event)
        return logits if logits.dtype == torch.float64 else logits.float()

    def forward(self, z: Tensor) -> Any:
        return self.family(self.logits(z), len(self.event))


class MeanOverPixels(BernoulliPixels):
    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value) / math.prod(self.event_shape)


class PixelMean(SoundDecoder):
    family = MeanOverPixels


class SamplesProbabilities(BernoulliPixels):
    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self.mean.expand(*sample_shape, *self.logits.shape)


class GreySamples(SoundDecoder):
    family = SamplesProbabilities


class PeeksAhead(BernoulliPixels):
    """An "autoregressive" density whose pixels are conditioned on themselves."""

    def log_prob(self, value: Tensor) -> Tensor:
        return BernoulliPixels(self.logits + (2 * value - 1), self._event_dim).log_prob(value)


class NotCausal(SoundDecoder):
    family = PeeksAhead


class IgnoresLatent(SoundDecoder):
    """What a strong decoder does to its latent."""

    def logits(self, z: Tensor) -> Tensor:
        return super().logits(torch.zeros_like(z)) + self.net.weight.sum()


class WithoutSamples(SoundDecoder):
    """Averages the samples of the posterior away."""

    def logits(self, z: Tensor) -> Tensor:
        logits = super().logits(z)
        return logits.mean(0, keepdim=True).expand_as(logits) if z.dim() > 1 + self.latents else logits


class DetachedDecoder(SoundDecoder):
    def logits(self, z: Tensor) -> Tensor:
        return super().logits(z).detach() + 0 * z.sum()


class FlatEvent(SoundDecoder):
    def forward(self, z: Tensor) -> Any:
        return BernoulliPixels(self.logits(z).flatten(-2), len(self.event) - 1)


class HalfNats(BernoulliPixels):
    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value).to(self.logits.dtype)


class HalfPrecision(SoundDecoder):
    family = HalfNats

    def logits(self, z: Tensor) -> Tensor:
        return self.net(z.flatten(-self.latents)).unflatten(-1, self.event)


@pytest.mark.parametrize(
    ("decoder", "expected"),
    [
        (SoundDecoder, set()),
        (PixelMean, {"decoder_total_probability"}),
        (NotCausal, {"decoder_total_probability"}),
        (GreySamples, {"decoder_sample"}),
        (WithoutSamples, {"decoder_broadcasts"}),
        (HalfPrecision, {"decoder_finite"}),
    ],
)
def test_decoder(decoder: Any, expected: set[str], failing: Failing) -> None:
    assert failing(DecoderConfig, decoder, supports=BINARY) == expected


@pytest.mark.parametrize(
    ("decoder", "check"),
    [
        (IgnoresLatent, "decoder_uses_latent"),
        (IgnoresLatent, "decoder_gradients"),
        (DetachedDecoder, "decoder_gradients"),
        (FlatEvent, "decoder_shape"),
    ],
)
def test_decoder_with_several_faults(decoder: Any, check: str, failing: Failing) -> None:
    assert check in failing(DecoderConfig, decoder, supports=BINARY)


# --------------------------------------------------------------------------------------------------------------- texts


class SoundText(nn.Module):
    family: type[Unigrams] = Unigrams

    def __init__(self, context: BuildContext) -> None:
        super().__init__()
        self.data = context.data
        self.net = nn.Linear(context.latent_size, context.data.vocabulary_size or 2)

    def forward(self, z: Tensor) -> Any:
        logits = self.net(z)
        return self.family(logits if logits.dtype == torch.float64 else logits.float(), self.data)


class PaddingCosts(Unigrams):
    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value) - (0 if self.special is None else (value == self.special.padding).sum(-1))


class EndIsFree(Unigrams):
    def log_prob(self, value: Tensor) -> Tensor:
        if self.special is None:
            return super().log_prob(value)
        ended = (value == self.special.end).any(-1)
        return super().log_prob(value) - ended * self.tokens.logits[..., self.special.end]


class GoesOn(Unigrams):
    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self.tokens.sample(self.event_shape + torch.Size(sample_shape)).movedim(0, -1)


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        (Unigrams, set()),
        (PaddingCosts, {"decoder_ignores_padding", "decoder_total_probability"}),
        (EndIsFree, {"decoder_total_probability"}),
        (GoesOn, {"decoder_sample"}),
    ],
)
def test_decoder_of_texts(family: Any, expected: set[str], failing: Failing) -> None:
    decoder = type("Decoder", (SoundText,), {"family": family})
    assert failing(DecoderConfig, decoder, supports=property(lambda self: frozenset({"tokens"}))) == expected


class ReadsAllPositions(nn.Module):
    def __init__(self, context: BuildContext) -> None:
        super().__init__()
        self.embedding = nn.Embedding(context.data.vocabulary_size or 2, 5)
        self.feature_shape = (5,)

    def forward(self, x: Tensor) -> Tensor:
        mean: Tensor = self.embedding(x).mean(1)
        return mean


def test_encoder_that_reads_padding(failing: Failing) -> None:
    assert failing(EncoderConfig, ReadsAllPositions) == {"encoder_ignores_padding"}


# ---------------------------------------------------------------------------------------------------------- likelihood


class SoundLikelihood(nn.Module):
    outputs_per_value = 1

    def __init__(self, context: BuildContext) -> None:
        super().__init__()
        self.event_dim = len(context.data.event_shape)

    def forward(self, outputs: Tensor) -> Any:
        return Independent(Normal(self.full(outputs), 0.7, validate_args=False), self.event_dim)

    def full(self, outputs: Tensor) -> Tensor:
        return outputs.float() if outputs.dtype == torch.bfloat16 else outputs


class Rescaled(Independent):
    def __init__(self, base: Any, event_dim: int, change: Callable[[Tensor, int], Tensor]) -> None:
        super().__init__(base, event_dim, validate_args=False)
        self.change = change

    def log_prob(self, value: Tensor) -> Tensor:
        return self.change(super().log_prob(value), self.event_shape.numel())


class MeanLikelihood(SoundLikelihood):
    def forward(self, outputs: Tensor) -> Any:
        return Rescaled(Normal(self.full(outputs), 0.7, validate_args=False), self.event_dim, lambda t, n: t / n)


class SquaredError(SoundLikelihood):
    """A Gaussian without its constant, as squared error is."""

    def forward(self, outputs: Tensor) -> Any:
        constant = 0.5 * math.log(2 * math.pi) + math.log(0.7)
        base = Normal(self.full(outputs), 0.7, validate_args=False)
        return Rescaled(base, self.event_dim, lambda t, n: t + n * constant)


class StaysHalf(SoundLikelihood):
    def forward(self, outputs: Tensor) -> Any:
        base = Normal(self.full(outputs), 0.7, validate_args=False)
        return Rescaled(base, self.event_dim, lambda t, n: t.to(outputs.dtype))


class UnusedScale(SoundLikelihood):
    def __init__(self, context: BuildContext) -> None:
        super().__init__(context)
        self.logvar = nn.Parameter(torch.zeros(()))


class DetachedOutputs(SoundLikelihood):
    def full(self, outputs: Tensor) -> Tensor:
        return super().full(outputs).detach() + 0 * outputs.float().sum()


class SamplesWithGradient(Independent):
    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self.rsample(sample_shape)


class LeakySamples(SoundLikelihood):
    def __init__(self, context: BuildContext) -> None:
        super().__init__(context)
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, outputs: Tensor) -> Any:
        return SamplesWithGradient(Normal(self.full(outputs) + self.shift, 0.7, validate_args=False), self.event_dim)


class WrongEvent(SoundLikelihood):
    def forward(self, outputs: Tensor) -> Any:
        return Independent(Normal(self.full(outputs), 0.7, validate_args=False), self.event_dim - 1)


@pytest.mark.parametrize(
    ("likelihood", "expected"),
    [
        (SoundLikelihood, set()),
        (MeanLikelihood, {"likelihood_sums_over_event"}),
        (SquaredError, {"likelihood_total_probability"}),
        (StaysHalf, {"likelihood_bfloat16"}),
        (UnusedScale, {"likelihood_gradients"}),
        (DetachedOutputs, {"likelihood_gradients"}),
        (LeakySamples, {"likelihood_sample"}),
    ],
)
def test_likelihood(likelihood: Any, expected: set[str], failing: Failing) -> None:
    assert failing(LikelihoodConfig, likelihood, supports=frozenset({"unit_interval"})) == expected


def test_likelihood_with_a_wrong_event(failing: Failing) -> None:
    assert "likelihood_shape" in failing(LikelihoodConfig, WrongEvent, supports=frozenset({"unit_interval"}))
