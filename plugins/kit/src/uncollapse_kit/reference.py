"""The model that losses, estimators and samplers are tried on, and inferences built by hand.

Its parts are written here, in a few lines each, so that a fault of the core's parts cannot hide one of the component.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Size, Tensor, nn
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Normal
from uncollapse.config import BuildContext
from uncollapse.distributions import DiagonalNormal, standard_normal
from uncollapse.inference import Gathered, Inference
from uncollapse.model import LatentVariableModel
from uncollapse.protocols import DataSpec, Progress

__all__ = [
    "EchoNormal",
    "ShareOfInference",
    "Unigrams",
    "reference_inference",
    "reference_model",
    "shares_of",
    "take",
]


class EchoNormal(DiagonalNormal):
    """A diagonal Gaussian whose "noise" is a smooth function of its own moments.

    Examples keep their noise when the batch is reordered, split or doubled, so that a loss of the reordered batch can
    be compared with the loss of the batch itself without sampling error.
    """

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Return ``mean + stddev * noise(mean, logvar)``, ``[*sample_shape, *batch, *D]``."""
        return self.mean + self.stddev * self._noise(Size(sample_shape))

    def rsample_and_log_prob(self, sample_shape: Any = ()) -> tuple[Tensor, Tensor]:
        """Return samples and their log density in nats, ``[*sample_shape, *batch]``."""
        z = self.rsample(sample_shape)
        return z, self.log_prob(z)

    def expand(self, batch_shape: Any, _instance: Any = None) -> EchoNormal:
        """Return the same distribution over a larger batch."""
        shape = Size(batch_shape) + self.event_shape
        return EchoNormal(self.mean.expand(shape), self.logvar.expand(shape), len(self.event_shape))

    def _noise(self, sample_shape: Size) -> Tensor:
        mean, logvar = self.mean.detach(), self.logvar.detach()
        draws = torch.arange(sample_shape.numel(), device=mean.device, dtype=mean.dtype)
        draws = draws.reshape(*sample_shape, *([1] * mean.dim()))
        return 1.4 * torch.sin(5 * mean + 3 * logvar + 2 * draws)


class _Words(nn.Module):
    """How often each word occurs in texts ``[B, T]``, ``[B, V]``."""

    def __init__(self, data: DataSpec) -> None:
        super().__init__()
        self.data = data

    def forward(self, x: Tensor) -> Tensor:
        counts = nn.functional.one_hot(x, self.data.vocabulary_size or 2).sum(-2)
        if self.data.special is not None:
            counts[..., self.data.special.padding] = 0
        return counts.float()


class Unigrams(Distribution):
    """Texts whose tokens are drawn independently of each other, until the end comes.

    Args:
        logits: Of each token, ``[*batch, V]``.
        data: Longest text, and special tokens.
    """

    arg_constraints = {}  # noqa: RUF012 - torch's own signature

    def __init__(self, logits: Tensor, data: DataSpec) -> None:
        self.special = data.special
        if self.special is not None:
            absent = torch.tensor([self.special.padding, self.special.start], device=logits.device)
            logits = logits.index_fill(-1, absent, -torch.inf)
        self.tokens = Categorical(logits=logits, validate_args=False)
        super().__init__(logits.shape[:-1], Size(data.event_shape), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return nats, summed over the tokens of texts ``[..., T]`` that are not padding."""
        batch = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        nats: Tensor = self.tokens.logits.expand(*batch, -1).gather(-1, value.expand(*batch, -1))
        return nats.sum(-1) if self.special is None else nats.where(value != self.special.padding, 0.0).sum(-1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw ``[*sample_shape, *batch, T]``."""
        drawn: Tensor = self.tokens.sample(self.event_shape + Size(sample_shape)).movedim(0, -1)
        if self.special is None:
            return drawn
        ended = (drawn == self.special.end).long()
        return drawn.masked_fill(ended.cumsum(-1) > ended, self.special.padding)


class _ReferenceEncoder(nn.Module):
    def __init__(self, data: DataSpec, features: int) -> None:
        super().__init__()
        texts = data.support == "tokens"
        size = data.vocabulary_size or 2 if texts else math.prod(data.event_shape)
        self.net = nn.Sequential(_Words(data) if texts else nn.Flatten(), nn.Linear(size, features), nn.Tanh())
        self.feature_shape = (features,)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.net(x)
        return features


class _ReferencePosterior(nn.Module):
    def __init__(self, features: int, latent_shape: tuple[int, ...], echo: bool) -> None:
        super().__init__()
        self.latent_shape = latent_shape
        self.head = nn.Linear(features, 2 * math.prod(latent_shape))
        self.family = EchoNormal if echo else DiagonalNormal

    def forward(self, h: Tensor, progress: Progress | None = None) -> DiagonalNormal:
        mean, logvar = self.head(h).unflatten(1, (2, *self.latent_shape)).unbind(1)
        return self.family(mean, logvar, event_dim=len(self.latent_shape))


class _ReferencePrior(nn.Module):
    zeros: Tensor

    def __init__(self, latent_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("zeros", standard_normal(latent_shape).mean, persistent=False)

    def forward(self) -> DiagonalNormal:
        return DiagonalNormal(self.zeros, self.zeros, event_dim=self.zeros.dim())


class _ReferenceDecoder(nn.Module):
    def __init__(self, latent_shape: tuple[int, ...], data: DataSpec) -> None:
        super().__init__()
        self.data = data
        self.latent_dims = len(latent_shape)
        size = data.vocabulary_size or 2 if data.support == "tokens" else math.prod(data.event_shape)
        self.net = nn.Linear(math.prod(latent_shape), size)

    def forward(self, z: Tensor) -> Distribution:
        if self.data.support == "tokens":
            return Unigrams(self.net(z.flatten(-self.latent_dims)).float(), self.data)
        outputs = self.net(z.flatten(-self.latent_dims)).unflatten(-1, self.data.event_shape).float()
        event_dim = len(self.data.event_shape)
        if self.data.support in ("binary", "unit_interval"):
            return Independent(Bernoulli(logits=outputs, validate_args=False), event_dim)
        return Independent(Normal(outputs, 0.5, validate_args=False), event_dim)


def reference_model(context: BuildContext, *, echo: bool = False) -> LatentVariableModel:
    """Return a small model for the data and latents of ``context``.

    Args:
        context: Shapes and support.
        echo: Whether the posterior's noise belongs to the examples, as :class:`EchoNormal` has it.
    """
    features = 16
    model = LatentVariableModel(
        _ReferenceEncoder(context.data, features),
        _ReferencePosterior(features, context.latent_shape, echo),
        _ReferencePrior(context.latent_shape),
        _ReferenceDecoder(context.latent_shape, context.data),
    )
    with torch.no_grad():
        # Posteriors that differ from each other and from the prior, so that no term of a loss vanishes.
        model.posterior.head.weight.mul_(3.0)  # type: ignore[union-attr, operator]
    return model


def reference_inference(
    model: LatentVariableModel, x: Tensor, mean: Tensor, logvar: Tensor, z: Tensor | None = None
) -> Inference:
    """Return the inference of posteriors ``N(mean, exp(logvar))`` given by hand.

    Args:
        model: Gives prior and likelihood.
        x: Data ``[B, *X]``.
        mean: ``[B, *D]``; a leaf, where gradients are of interest.
        logvar: ``[B, *D]``.
        z: Samples ``[S, B, *D]``; two of :class:`EchoNormal` by default.
    """
    q = EchoNormal(mean, logvar, event_dim=mean.dim() - 1)
    samples = q.rsample((2,)) if z is None else z
    encoder: Any = model.encoder
    return Inference(x=x, h=encoder(x).detach(), q=q, z=samples, p_z=model.p_z(), p_x=model.generate(samples))


@dataclass(frozen=True)
class ShareOfInference(Inference):
    """One process's share of an inference under data parallelism, without processes.

    Every field holds the share's own examples; :meth:`gathered` answers as it does in a run with several processes:
    with moments and samples of the global batch, through which gradients reach every process's share.

    Args:
        whole: The inference of the global batch.
    """

    whole: Inference | None = None

    def gathered(self) -> Gathered:
        """Return moments and samples of the global batch."""
        return super().gathered() if self.whole is None else self.whole.gathered()


def take(model: LatentVariableModel, whole: Inference, index: Tensor) -> ShareOfInference:
    """Return the examples ``index [b]`` of ``whole``, which still gathers all of them."""
    base = whole.base
    if base is None:
        raise TypeError(f"a share needs a Gaussian posterior, found {type(whole.q).__name__}")
    z = whole.z[:, index]
    return ShareOfInference(
        x=whole.x[index],
        h=whole.h[index],
        q=EchoNormal(base.mean[index], base.logvar[index], len(base.event_shape)),
        z=z,
        p_z=whole.p_z,
        p_x=model.generate(z),
        progress=whole.progress,
        whole=whole,
    )


def shares_of(model: LatentVariableModel, whole: Inference, processes: int = 2) -> Sequence[ShareOfInference]:
    """Return equal shares of ``whole``, as data parallelism over ``processes`` deals them."""
    return [take(model, whole, index) for index in torch.arange(len(whole.x)).chunk(processes)]
