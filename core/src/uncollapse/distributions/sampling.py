"""Sampling with the log density at hand, and analytic divergences where they exist."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Size, Tensor
from torch.distributions import Distribution, kl_divergence

__all__ = ["FactorizedDensity", "TermwiseDensity", "analytic_kl", "rsample_and_log_prob"]


class FactorizedDensity(Protocol):
    """A distribution that gives the log density of its own samples as a sum over latent dimensions."""

    def rsample_and_log_prob_per_dimension(self, shape: Any = Size()) -> tuple[Tensor, Tensor]:
        """Draw ``z`` and return it with terms that sum to ``log q(z)``, both ``[*shape, *batch, *D]``."""
        ...


class TermwiseDensity(Protocol):
    """A distribution that gives the log density of any value as a sum over latent dimensions."""

    def log_prob_per_dimension(self, value: Tensor) -> Tensor:
        """Return terms that sum to ``log p(z)`` in nats, ``[..., *D]``, for ``z [..., *D]``."""
        ...


def rsample_and_log_prob(q: Distribution, sample_shape: Any = Size()) -> tuple[Tensor, Tensor]:
    """Return reparameterized samples ``[*sample_shape, *batch, *D]`` of ``q`` with their log density in nats.

    Flows evaluate the density of their own samples on the way out, which spares the inversion of an autoregressive
    transform; a distribution that can do so defines ``rsample_and_log_prob`` itself.
    """
    own = getattr(q, "rsample_and_log_prob", None)
    if own is not None:
        z, log_q = own(sample_shape)
        return z, log_q
    z = q.rsample(sample_shape)
    return z, q.log_prob(z)


def analytic_kl(q: Distribution, p: Distribution) -> Tensor | None:
    """Return ``KL(q || p)`` in nats, ``[*batch]``, or None when ``torch.distributions.kl`` does not know the pair."""
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        return None
