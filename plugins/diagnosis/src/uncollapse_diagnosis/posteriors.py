"""Whatever a model calls its posterior, read as a distribution with batch ``[B]`` and event ``D``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent
from uncollapse.distributions import DiagonalNormal, gaussian_base, standard_normal
from uncollapse.errors import ShapeError

__all__ = ["read_posterior", "read_prior"]

_LOG_VARIANCES = ("logvar", "log_var", "log_variance")
_VARIANCES = ("var", "variance")
_DEVIATIONS = ("std", "stddev", "scale")

_ALLOWED = (
    "a torch Distribution, an object with .mean and .logvar (or .var or .std), one with .latent_dist, or a pair "
    "(mean, logvar)"
)


def read_posterior(given: Any, count: int) -> Distribution:
    """Return ``q(z|x)`` with batch ``[B]`` and event ``D``.

    A torch ``Normal`` over ``[B, *D]`` becomes one diagonal Gaussian an example, whatever it takes for its event. So
    does an object that has tensors ``mean`` and ``logvar`` (or ``var``, or ``std``), as latent diffusion's
    ``DiagonalGaussianDistribution``, what holds one as ``latent_dist``, and a pair ``(mean, logvar)``.

    Args:
        given: What the model returned for ``count`` examples.
        count: ``B``.

    Raises:
        ShapeError: It is something else, or is not one posterior for each example.
    """
    if isinstance(given, Distribution):
        return _checked(_whole_event(given), count)
    if hasattr(given, "latent_dist"):
        return read_posterior(given.latent_dist, count)
    moments = _moments(given)
    if moments is None:
        raise ShapeError(f"the posterior: expected {_ALLOWED}; found {type(given).__name__}")
    mean, logvar = moments
    if mean.dim() < 2 or mean.shape != logvar.shape:
        raise ShapeError(
            f"the posterior: expected mean and log-variance [B, *D] of one shape, found {tuple(mean.shape)} and "
            f"{tuple(logvar.shape)}"
        )
    return _checked(DiagonalNormal(mean, logvar, mean.dim() - 1), count)


def read_prior(given: Distribution | None, event_shape: torch.Size, device: torch.device) -> Distribution:
    """Return ``p(z)`` with batch ``[]`` and event ``D``; a standard Gaussian for None.

    Raises:
        ShapeError: Its latents have another shape than the posterior's.
    """
    if given is None:
        return standard_normal(tuple(event_shape), device)
    prior = given
    base = gaussian_base(given) if _is_normal(given) else None
    if base is not None:
        mean, logvar = (torch.broadcast_to(t, event_shape) for t in (base.mean, base.logvar))
        return DiagonalNormal(mean, logvar, len(event_shape))
    if prior.batch_shape:
        prior = Independent(prior, len(prior.batch_shape))
    if prior.event_shape != event_shape:
        raise ShapeError(
            f"the prior: its latents have shape {tuple(prior.event_shape)}, the posterior's {tuple(event_shape)}; "
            "both must agree"
        )
    return prior


def _is_normal(q: Distribution) -> bool:
    while isinstance(q, Independent):
        q = q.base_dist
    return isinstance(q, torch.distributions.Normal | DiagonalNormal)


def _whole_event(q: Distribution) -> Distribution:
    """Return the distribution with everything behind the first dimension as its event."""
    if _is_normal(q):
        while isinstance(q, Independent):
            q = q.base_dist
        base = gaussian_base(q)
        assert base is not None
        if type(q) is DiagonalNormal and len(q.batch_shape) == 1:
            return q
        return DiagonalNormal(base.mean, base.logvar, max(base.mean.dim() - 1, 0))
    return Independent(q, len(q.batch_shape) - 1) if len(q.batch_shape) > 1 else q


def _moments(given: Any) -> tuple[Tensor, Tensor] | None:
    if isinstance(given, tuple | list) and len(given) == 2 and all(isinstance(t, Tensor) for t in given):
        return given[0], given[1]
    mean = getattr(given, "mean", None)
    if not isinstance(mean, Tensor):
        return None
    for names, factor in ((_LOG_VARIANCES, None), (_VARIANCES, 1.0), (_DEVIATIONS, 2.0)):
        for name in names:
            value = getattr(given, name, None)
            if isinstance(value, Tensor):
                return mean, value if factor is None else factor * value.log()
    return None


def _checked(q: Distribution, count: int) -> Distribution:
    if tuple(q.batch_shape) != (count,) or not q.event_shape:
        raise ShapeError(
            f"the posterior: expected one distribution for each of {count} examples, batch [{count}] and event D; "
            f"found batch {list(q.batch_shape)} and event {list(q.event_shape)}"
        )
    return q
