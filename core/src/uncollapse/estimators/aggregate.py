"""The aggregate posterior ``q(z) = (1/N) sum_j q(z|x_j)`` of a whole set, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import ShapeError
from ..passes import as_float64

__all__ = ["PAIRS_AT_ONCE", "log_aggregate_posterior", "sampled_log_density"]

_LOG_2PI = math.log(2 * math.pi)

PAIRS_AT_ONCE = 2**18
"""Pairs (i, j) whose log density is held at once: 2 MB of float64, which stay in a processor's cache."""

_ROUNDING_ALLOWED = 1e-6
"""Nats by which rounding may change a log density before pairs are computed from exact differences."""


def sampled_log_density(mean: Tensor, logvar: Tensor, z: Tensor) -> Tensor:
    """Return ``log N(z_i; mean_i, exp(logvar_i))`` for ``[N, D]`` each, nats, ``[N]``."""
    squared = (z - mean).square() * (-logvar).exp()
    return -0.5 * (squared + logvar + _LOG_2PI).sum(1)


def log_aggregate_posterior(
    mean: Tensor, logvar: Tensor, z: Tensor, pairs_at_once: int = PAIRS_AT_ONCE
) -> Tensor:  # fmt: skip
    """Return ``log (1/N) sum_j q(z_i|x_j)`` of Gaussian posteriors for every ``z_i``, nats, ``[M]``, in float64.

    The sum runs over all posteriors; memory is ``pairs_at_once`` numbers (at least one row of ``N``) besides the
    inputs. Pairs come from one matrix product, ``z^2/v - 2 z m/v + m^2/v``, which is fast and loses about
    ``z^2/v`` times the rounding unit; where posteriors are so narrow that this could be seen, they come from the
    differences ``(z - m)^2/v`` themselves, which loses nothing and takes about three times as long.

    Args:
        mean: Means of the posteriors ``[N, D]``.
        logvar: Their log-variances ``[N, D]``.
        z: Points ``[M, D]``.
        pairs_at_once: Pairs held at once.

    Raises:
        ShapeError: Shapes do not fit.
    """
    if mean.dim() != 2 or mean.shape != logvar.shape or z.dim() != 2 or z.shape[1] != mean.shape[1]:
        raise ShapeError(
            f"expected mean and logvar [N, D] and z [M, D], found {tuple(mean.shape)}, {tuple(logvar.shape)} and "
            f"{tuple(z.shape)}"
        )
    mean, logvar, z = as_float64(mean), as_float64(logvar), as_float64(z)
    centre = mean.mean(0)
    mean, z = mean - centre, z - centre
    precision = (-logvar).exp()
    constant = -0.5 * (logvar.sum(1) + mean.shape[1] * _LOG_2PI)
    reach = torch.maximum(z.abs().amax(0), mean.abs().amax(0)).square()
    rounding = 4 * torch.finfo(torch.float64).eps * (precision @ reach).max()
    pairs = _products if bool(rounding <= _ROUNDING_ALLOWED) else _differences
    log_densities = pairs(mean, precision, constant)
    chunks = torch.split(z, max(1, pairs_at_once // len(mean)))
    return torch.cat([log_densities(some).logsumexp(1) for some in chunks]) - math.log(len(mean))


def _products(mean: Tensor, precision: Tensor, constant: Tensor) -> Callable[[Tensor], Tensor]:
    scaled = mean * precision
    offset = constant - 0.5 * (mean * scaled).sum(1)
    weights = torch.cat([-0.5 * precision, scaled], 1).T

    def log_densities(z: Tensor) -> Tensor:
        return torch.addmm(offset, torch.cat([z.square(), z], 1), weights)

    return log_densities


def _differences(mean: Tensor, precision: Tensor, constant: Tensor) -> Callable[[Tensor], Tensor]:
    # One dimension after the other on contiguous rows: three times as fast as slicing columns, and no [M, N, D].
    mean, precision = mean.T.contiguous(), precision.T.contiguous()

    def log_densities(z: Tensor) -> Tensor:
        total = constant.expand(len(z), -1).clone()
        difference = torch.empty_like(total)
        for z_d, mean_d, precision_d in zip(z.T.contiguous(), mean, precision, strict=True):
            torch.sub(z_d[:, None], mean_d, out=difference)
            total.addcmul_(difference.square_(), precision_d.expand_as(total), value=-0.5)
        return total

    return log_densities
