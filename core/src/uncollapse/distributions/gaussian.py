"""The diagonal Gaussian, parameterised by mean and log-variance as the papers do."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.kl import register_kl

__all__ = ["DiagonalNormal", "StandardNormal", "gaussian_base", "kl_per_dimension", "standard_normal"]

_LOG_2PI = math.log(2 * math.pi)


class DiagonalNormal(Distribution):
    """Gaussian with diagonal covariance over an event of any shape: ``N(mean, diag(exp(logvar)))``.

    Kingma and Welling, Auto-Encoding Variational Bayes (2014), https://arxiv.org/abs/1312.6114, appendix C.2.

    Args:
        mean: ``[*batch, *D]``.
        logvar: Logarithm of the variance, the same shape.
        event_dim: How many trailing dimensions form the event ``D``.

    ``log_prob`` includes the constant ``-D/2 log 2π``. Half-precision moments are computed with in float32.

    >>> q = DiagonalNormal(torch.zeros(3, 2), torch.zeros(3, 2))
    >>> q.batch_shape, q.event_shape, q.rsample((5,)).shape
    (torch.Size([3]), torch.Size([2]), torch.Size([5, 3, 2]))
    """

    arg_constraints = {"mean": constraints.real, "logvar": constraints.real}  # noqa: RUF012 - torch's own signature
    has_rsample = True

    def __init__(self, mean: Tensor, logvar: Tensor, event_dim: int = 1, validate_args: bool | None = False) -> None:
        if mean.shape != logvar.shape:
            mean, logvar = torch.broadcast_tensors(mean, logvar)
        if mean.dtype in (torch.bfloat16, torch.float16):
            mean, logvar = mean.float(), logvar.float()
        self._mean, self.logvar = mean, logvar
        self._event_dim = event_dim
        shape = mean.shape
        cut = len(shape) - event_dim
        super().__init__(shape[:cut], shape[cut:], validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """Return the reals, over the event's dimensions."""
        return constraints.independent(constraints.real, self._event_dim)

    @property
    def mean(self) -> Tensor:
        """Mean ``[*batch, *D]``."""
        return self._mean

    @property
    def mode(self) -> Tensor:
        """Mode ``[*batch, *D]``, which is the mean."""
        return self._mean

    @property
    def variance(self) -> Tensor:
        """Variance ``[*batch, *D]``."""
        return self.logvar.exp()

    @property
    def stddev(self) -> Tensor:
        """Standard deviation ``[*batch, *D]``."""
        return (0.5 * self.logvar).exp()

    def expand(self, batch_shape: Any, _instance: Any = None) -> DiagonalNormal:
        """Return the same distribution over a larger batch; memory is shared."""
        shape = Size(batch_shape) + self.event_shape
        return DiagonalNormal(self._mean.expand(shape), self.logvar.expand(shape), self._event_dim)

    def rsample(self, sample_shape: Any = Size()) -> Tensor:
        """Draw reparameterized samples ``[*sample_shape, *batch, *D]``."""
        if tuple(sample_shape) == (1,):
            # The common case: noise of the moments' own shape, so that no gradient is summed over samples.
            return (self._mean + torch.randn_like(self._mean) * self.stddev).unsqueeze(0)
        shape = Size(sample_shape) + self._mean.shape
        noise = torch.randn(shape, dtype=self._mean.dtype, device=self._mean.device)
        return torch.addcmul(self._mean, noise, self.stddev)

    def rsample_and_log_prob(self, sample_shape: Any = Size()) -> tuple[Tensor, Tensor]:
        """Draw ``z [*sample_shape, *batch, *D]`` and return it with ``log q(z)`` ``[*sample_shape, *batch]``.

        The log density comes from the noise itself, so no precision is lost on narrow posteriors.
        """
        z, log_q = self.rsample_and_log_prob_per_dimension(sample_shape)
        return z, self._sum(log_q)

    def rsample_and_log_prob_per_dimension(self, sample_shape: Any = Size()) -> tuple[Tensor, Tensor]:
        """Draw ``z`` and return it with ``log q(z_d)`` of every dimension, both ``[*sample_shape, *batch, *D]``."""
        shape = Size(sample_shape) + self._mean.shape
        noise = torch.randn(shape, dtype=self._mean.dtype, device=self._mean.device)
        z = torch.addcmul(self._mean, noise, self.stddev)
        return z, -0.5 * (noise.square() + self.logvar + _LOG_2PI)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return ``log N(value)`` in nats, ``[...]`` for a value ``[..., *D]``."""
        return self._sum(self.log_prob_per_dimension(value))

    def log_prob_per_dimension(self, value: Tensor) -> Tensor:
        """Return ``log N(value_d)`` in nats of every dimension, ``[..., *D]``."""
        scaled = (value - self._mean) * (-0.5 * self.logvar).exp()
        return -0.5 * (scaled.square() + self.logvar + _LOG_2PI)

    def entropy(self) -> Tensor:
        """Return the differential entropy in nats, ``[*batch]``."""
        return self._sum(0.5 * (self.logvar + 1 + _LOG_2PI))

    def _sum(self, t: Tensor) -> Tensor:
        return t.sum(dim=tuple(range(-self._event_dim, 0))) if self._event_dim else t


class StandardNormal(DiagonalNormal):
    """``N(0, I)`` with batch ``[]``: a Gaussian whose divergences are simpler.

    Args:
        zeros: ``[*D]``, all 0.
    """

    def __init__(self, zeros: Tensor) -> None:
        super().__init__(zeros, zeros, event_dim=zeros.dim())

    def log_prob_per_dimension(self, value: Tensor) -> Tensor:
        """Return ``log N(value_d; 0, 1)`` in nats of every dimension, ``[..., *D]``."""
        return -0.5 * (value.square() + _LOG_2PI)


def standard_normal(latent_shape: tuple[int, ...], device: torch.device | str | None = None) -> StandardNormal:
    """Return ``N(0, I)`` with batch ``[]`` and event ``latent_shape``."""
    return StandardNormal(torch.zeros(latent_shape, device=device))


def gaussian_base(q: Distribution) -> DiagonalNormal | None:
    """Return the diagonal Gaussian under ``q [B]``: ``q`` itself, or the base of a flow; None where there is none.

    A ``torch.distributions.Normal``, alone or inside ``Independent``, is read as one, its last dimension the event.
    """
    if isinstance(q, DiagonalNormal):
        return q
    if isinstance(q, torch.distributions.Independent) and isinstance(q.base_dist, torch.distributions.Normal):
        normal, event_dim = q.base_dist, q.reinterpreted_batch_ndims
        return DiagonalNormal(normal.loc, 2 * normal.scale.log(), event_dim)
    if isinstance(q, torch.distributions.Normal):
        return DiagonalNormal(q.loc, 2 * q.scale.log())
    base = getattr(q, "base", None)
    return gaussian_base(base) if isinstance(base, Distribution) else None


def kl_per_dimension(q: DiagonalNormal, p: DiagonalNormal) -> Tensor:
    """Return ``KL(q_d || p_d)`` in nats for every latent dimension, ``[*batch, *D]``.

    Kingma and Welling (2014), appendix B, for two Gaussians.
    """
    if isinstance(p, StandardNormal):
        return 0.5 * (q.mean.square() + q.logvar.exp() - q.logvar - 1)
    difference = q.logvar - p.logvar
    scaled = (q.mean - p.mean) * (-0.5 * p.logvar).exp()
    return 0.5 * (difference.exp() - 1 - difference + scaled.square())


@register_kl(DiagonalNormal, DiagonalNormal)  # type: ignore[untyped-decorator]
def _kl_diagonal_normal(q: DiagonalNormal, p: DiagonalNormal) -> Tensor:
    return q._sum(kl_per_dimension(q, p))
