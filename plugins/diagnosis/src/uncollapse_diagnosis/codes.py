"""One pass over the data: the posterior of every example, a draw from it, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.distributions import Distribution
from uncollapse.distributions import DiagonalNormal, analytic_kl, kl_per_dimension, rsample_and_log_prob
from uncollapse.errors import DataError
from uncollapse.passes import as_float64, exact_gaussian, posterior_mean
from uncollapse.protocols import Batch

from .settings import Settings
from .subject import Subject, first_examples, rows_of

__all__ = ["Codes", "Kept", "read_codes"]

_DRAWS = 64
"""Draws for what a posterior does not give in closed form."""


@dataclass(frozen=True)
class Kept:
    """Examples that the decoder is tried on: data, posterior, and one draw ``z [B, *D]``."""

    batch: Batch
    q: Distribution
    z: Tensor


@dataclass(frozen=True)
class Codes:
    """The posteriors of ``N`` examples over ``K`` numbers, flattened; float64.

    Args:
        shape: ``D``, the shape of one latent.
        mean: ``[N, K]``.
        logvar: Logarithm of the variances ``[N, K]``; exact for diagonal Gaussians, else from draws.
        gaussian: Whether the posteriors are diagonal Gaussians.
        z: One draw of each ``[N, K]``.
        log_q: ``log q(z|x)`` of that draw ``[N]``, nats.
        rate: ``KL(q(z|x) || p(z))`` ``[N]``, nats.
        rate_per_dimension: The same of every number ``[N, K]``; None where it does not fall apart so.
        posteriors: The distributions, for the first of the examples, where they are no diagonal Gaussians.
        kept: Examples for the decoder.
        prior: ``p(z)``.
    """

    shape: torch.Size
    mean: Tensor
    logvar: Tensor
    gaussian: bool
    z: Tensor
    log_q: Tensor
    rate: Tensor
    rate_per_dimension: Tensor | None
    posteriors: tuple[Distribution, ...]
    kept: tuple[Kept, ...]
    prior: Distribution

    @property
    def count(self) -> int:
        """``N``."""
        return len(self.mean)

    @property
    def units(self) -> int:
        """Units that a latent is judged by: dimensions of a flat one, channels of a spatial one."""
        return self.shape[0]

    def per_unit(self, values: Tensor) -> Tensor:
        """Return ``[..., units]``, sums over what a unit consists of, for ``[..., K]``."""
        summed: Tensor = values.unflatten(-1, (self.units, -1)).sum(-1)
        return summed

    @cached_property
    def prior_moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of the prior, ``[K]`` each; from draws where it gives none."""
        try:
            mean, variance = self.prior.mean, self.prior.variance
        except NotImplementedError:
            draws = as_float64(self.prior.sample(torch.Size((4096,))))
            mean, variance = draws.mean(0), draws.var(0)
        return as_float64(mean).flatten().cpu(), as_float64(variance).flatten().cpu()


def read_codes(subject: Subject, batches: Iterable[Batch], settings: Settings) -> Codes:
    """Read the posterior of every example, at most ``settings.examples`` of them.

    Raises:
        DataError: There is no example, or a posterior is not finite.
        ShapeError: The model's answer is no posterior of each example.
    """
    reader = _Reader(subject, settings)
    for batch in first_examples(batches, settings.examples):
        reader.read(batch.to(subject.device))
        if reader.full:
            break
    return reader.codes()


class _Reader:
    def __init__(self, subject: Subject, settings: Settings) -> None:
        self.subject, self.settings = subject, settings
        self.rows: dict[str, list[Tensor]] = {
            name: [] for name in ("mean", "logvar", "z", "log_q", "rate", "rate_per_dimension")
        }
        self.gaussian, self.count = True, 0
        self.shape: torch.Size | None = None
        self.prior: Distribution | None = None
        self.posteriors: list[Distribution] = []
        self.kept: list[Kept] = []

    @property
    def full(self) -> bool:
        size = 1 if self.shape is None else self.shape.numel()
        return self.count * size >= self.settings.numbers

    def read(self, batch: Batch) -> None:
        q = self.subject.posterior(batch)
        if self.prior is None:
            self.shape = q.event_shape
            self.prior = self.subject.prior(self.shape)
        base = exact_gaussian(q)
        self.gaussian &= base is not None
        if base is None:
            self._read_any(q)
        else:
            self._read_gaussian(base)
        missing = self.settings.decoder_examples - sum(len(k.batch) for k in self.kept)
        if missing > 0:
            some = rows_of(batch, slice(missing))
            part = q if len(some) == len(batch) else self.subject.posterior(some)
            z = self.rows["z"][-1][: len(some)].reshape(len(some), *q.event_shape)
            self.kept.append(Kept(some, part, z.to(batch.x.device, self._dtype(q))))
        self.count += len(batch)

    def _read_gaussian(self, q: DiagonalNormal) -> None:
        mean, logvar = as_float64(q.mean), as_float64(q.logvar)
        if not bool(torch.isfinite(mean).all() and torch.isfinite(logvar).all()):
            raise DataError("the posterior: its mean or log-variance is not finite for some example")
        # Drawn in float64: a narrow posterior's sample would not survive rounding to its mean's precision.
        noise = torch.randn_like(mean)
        z = torch.addcmul(mean, (0.5 * logvar).exp(), noise)
        log_q = -0.5 * (noise.square() + logvar + math.log(2 * math.pi)).flatten(1).sum(1)
        assert self.prior is not None
        p = exact_gaussian(self.prior)
        if p is not None:
            p = DiagonalNormal(as_float64(p.mean), as_float64(p.logvar), len(p.event_shape))
            each = kl_per_dimension(DiagonalNormal(mean, logvar, len(q.event_shape)), p).flatten(1)
            self._add(rate=each.sum(1), rate_per_dimension=each)
        else:
            self._add(rate=self._rate(q))
        self._add(mean=mean.flatten(1), logvar=logvar.flatten(1), z=z.flatten(1), log_q=log_q)

    def _read_any(self, q: Distribution) -> None:
        z, log_q = rsample_and_log_prob(q, torch.Size((1,)))
        draws = as_float64(q.sample(torch.Size((_DRAWS,))))
        mean, _ = posterior_mean(q, _DRAWS)
        variance = draws.var(0)
        self._add(
            mean=as_float64(mean).flatten(1),
            logvar=variance.clamp(min=1e-30).log().flatten(1),
            z=as_float64(z[0]).flatten(1),
            log_q=as_float64(log_q[0]),
            rate=self._rate(q),
        )
        self.posteriors.append(q)

    def _rate(self, q: Distribution) -> Tensor:
        assert self.prior is not None
        exact = analytic_kl(q, self.prior)
        if exact is None:
            z, log_q = rsample_and_log_prob(q, torch.Size((_DRAWS,)))
            exact = (as_float64(log_q) - as_float64(self.prior.log_prob(z))).mean(0)
        return as_float64(exact)

    def _add(self, **found: Tensor) -> None:
        for name, value in found.items():
            self.rows[name].append(value.cpu())

    @staticmethod
    def _dtype(q: Distribution) -> torch.dtype:
        base = exact_gaussian(q)
        return torch.get_default_dtype() if base is None else base.mean.dtype

    def codes(self) -> Codes:
        if self.prior is None or self.shape is None:
            raise DataError("the data are empty: there was no example to diagnose the model on")
        joined = {name: torch.cat(rows) if rows else None for name, rows in self.rows.items()}
        return Codes(
            shape=self.shape,
            gaussian=self.gaussian,
            posteriors=tuple(self.posteriors) if not self.gaussian else (),
            kept=tuple(self.kept),
            prior=self.prior,
            **joined,  # type: ignore[arg-type]
        )
