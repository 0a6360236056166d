"""The record of one pass through the model: what objectives fill in and regularizers read."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Distribution

from .capabilities import supports
from .distributions import DiagonalNormal, TermwiseDensity, analytic_kl, gaussian_base, kl_per_dimension
from .errors import ConfigError
from .records import Progress

__all__ = ["Gathered", "Inference", "RateMode", "gather_batch"]

RateMode = Literal["auto", "analytic", "monte_carlo"]
"""How a rate is computed: in closed form, from samples, or in closed form where it is known."""


@dataclass(frozen=True)
class Gathered:
    """The part of an inference that pairs of examples are made of, over the global batch.

    Args:
        base: The diagonal Gaussian under the posterior, batch ``[B_global]``; None where the posterior has none.
        z: Samples ``[S, B_global, *D]``.
    """

    base: DiagonalNormal | None
    z: Tensor


@dataclass(frozen=True)
class Inference:
    """One pass: data, features, posterior, samples, prior and likelihood, with their log densities.

    Log densities are computed when first read, so an objective with an analytic rate pays for no density of samples.

    Args:
        x: Data ``[B, *X]``.
        h: Features ``[B, *H]``.
        q: Posterior ``q(z|x)``, batch ``[B]``, event ``D``.
        z: Reparameterized samples ``[S, B, *D]``.
        p_z: Prior, batch ``[]``, event ``D``.
        p_x: Likelihood ``p(x|z)``, batch ``[S, B]``, event ``X``.
        progress: Where the run stands.
        known_log_q: ``log q(z|x)`` ``[S, B]`` where drawing the samples gave it for free.
        log_q_per_dimension: Its terms, one for each latent dimension, ``[S, B, *D]``, where drawing gave them.
    """

    x: Tensor
    h: Tensor
    q: Distribution
    z: Tensor
    p_z: Distribution
    p_x: Distribution
    progress: Progress = field(default_factory=Progress)
    known_log_q: Tensor | None = None
    log_q_per_dimension: Tensor | None = None

    @cached_property
    def base(self) -> DiagonalNormal | None:
        """The diagonal Gaussian under the posterior, ``mean`` and ``logvar`` ``[B, *D]``; None where there is none."""
        return gaussian_base(self.q)

    @cached_property
    def log_q(self) -> Tensor:
        """``log q(z|x)`` of the samples, nats, ``[S, B]``."""
        return self.q.log_prob(self.z) if self.known_log_q is None else self.known_log_q

    @cached_property
    def log_p_z(self) -> Tensor:
        """``log p(z)`` of the samples, nats, ``[S, B]``."""
        return self.p_z.log_prob(self.z)

    @cached_property
    def log_p_x(self) -> Tensor:
        """``log p(x|z)``, nats, ``[S, B]``."""
        return self.p_x.log_prob(self.x)

    @cached_property
    def distortion(self) -> Tensor:
        """``-E_q log p(x|z)`` estimated from the samples, nats, ``[B]``."""
        # The mean of one is that one, and costs nothing.
        return -(self.log_p_x.squeeze(0) if len(self.log_p_x) == 1 else self.log_p_x.mean(0))

    @cached_property
    def _analytic_rate(self) -> Tensor | None:
        return analytic_kl(self.q, self.p_z)

    def rate(self, mode: RateMode = "auto") -> Tensor:
        """Return ``KL(q(z|x) || p(z))`` in nats, ``[B]``.

        Args:
            mode: ``analytic``, ``monte_carlo`` (from the samples at hand; may be negative for one of them), or
                ``auto``: analytic where ``torch.distributions.kl`` knows the pair, else Monte Carlo.

        Raises:
            ConfigError: ``analytic`` was asked for and the pair has no known divergence.
        """
        if mode != "monte_carlo":
            analytic = self._analytic_rate
            if analytic is not None:
                return analytic
            if mode == "analytic":
                raise ConfigError(
                    f"rate: 'analytic' was asked for, but KL({type(self.q).__name__} || {type(self.p_z).__name__}) "
                    "has no known closed form; use 'auto' or 'monte_carlo'"
                )
        return (self.log_q - self.log_p_z).mean(0)

    def rate_per_dimension(self, mode: RateMode = "auto") -> Tensor | None:
        """Return the rate of every latent dimension in nats, ``[B, *D]``, or None where it does not fall apart so.

        Analytic for two diagonal Gaussians, unless ``mode`` is ``monte_carlo``. For another posterior that gives its
        density term by term (a flow, two levels of Gaussians) and a prior that does, ``log q_d - log p_d`` of the
        samples, unless it is ``analytic``.
        """
        if isinstance(self.q, DiagonalNormal):
            analytic = mode != "monte_carlo" and isinstance(self.p_z, DiagonalNormal)
            return kl_per_dimension(self.q, self.p_z) if analytic else None  # type: ignore[arg-type]
        if self.log_q_per_dimension is None or mode == "analytic" or not supports(self.p_z, TermwiseDensity):
            return None
        return (self.log_q_per_dimension - self.p_z.log_prob_per_dimension(self.z)).mean(0)

    def gather(self, per_example: Tensor) -> Tensor:
        """Return a quantity ``[B, ...]`` of every example of the global batch, with gradients.

        For what is not linear in the mean over the batch, a floor under it say; see :meth:`gathered`.
        """
        return gather_batch(per_example)

    def gathered(self) -> Gathered:
        """Return moments and samples of the global batch.

        With one process these are the local ones. With several they are collected with gradients: when every process
        computes the same penalty of the global batch and the gradients are averaged (as data parallelism does), the
        result is the gradient that one process would have computed.
        """
        if _processes() == 1:
            return Gathered(self.base, self.z)
        base = self.base
        gathered_base = None
        if base is not None:
            event_dim = len(base.event_shape)
            gathered_base = DiagonalNormal(_all_gather(base.mean, 0), _all_gather(base.logvar, 0), event_dim)
        return Gathered(gathered_base, _all_gather(self.z, 1))


def gather_batch(share: Tensor) -> Tensor:
    """Return ``[B_global, ...]``, with gradients, for this process's share ``[B, ...]`` of a quantity per example.

    For parts that couple the examples of a batch before there is an inference, as batch normalization does; all
    processes must call it. See :meth:`Inference.gathered` for its gradients.
    """
    return _all_gather(share, 0) if _processes() > 1 else share


def _processes() -> int:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    return 1


class _AllGather(torch.autograd.Function):
    """Concatenate equal shares of all processes; the gradient of a share is the sum over processes."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, t: Tensor, dim: int) -> Tensor:
        ctx.dim = dim  # type: ignore[attr-defined]
        shares = [torch.empty_like(t) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(shares, t.contiguous())
        return torch.cat(shares, dim)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        grad = grad.contiguous()
        torch.distributed.all_reduce(grad)
        rank, world, dim = torch.distributed.get_rank(), torch.distributed.get_world_size(), ctx.dim  # type: ignore[attr-defined]
        return grad.chunk(world, dim)[rank].contiguous(), None


def _all_gather(t: Tensor, dim: int) -> Tensor:
    gathered: Tensor = _AllGather.apply(t.contiguous(), dim)  # type: ignore[no-untyped-call]
    return gathered
