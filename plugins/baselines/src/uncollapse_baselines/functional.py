"""What the remedies compute, as pure functions on tensors; values are nats."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from uncollapse.errors import ShapeError

__all__ = ["ar1_alpha", "ar1_committed_rate", "delta_limits", "delta_moments", "group_free_bits"]

_SMALLEST_SQUARE = 1e-12


def delta_limits(delta: float) -> tuple[float, float]:
    """Return the standard deviations between which a Gaussian can be ``delta`` nats from ``N(0, 1)``.

    The two solutions ``s`` of ``log s² - s² + 2 delta + 1 = 0``, where a mean of 0 is ``delta`` away: Razavi et al.,
    Preventing Posterior Collapse with delta-VAEs (2019), on independent latents,
    https://arxiv.org/abs/1901.03416.

    Raises:
        ValueError: ``delta`` is not positive.
    """
    if delta <= 0:
        raise ValueError(f"delta must be positive, found {delta:g}")

    def excess(variance: float) -> float:
        return math.log(variance) - variance + 2 * delta + 1

    low, high = math.exp(-2 * delta - 1), 2 * delta + 1
    while excess(high) > 0:
        high *= 2
    return math.sqrt(_root(excess, low, 1.0)), math.sqrt(_root(excess, high, 1.0))


def _root(excess: Callable[[float], float], outside: float, inside: float) -> float:
    """Return the point where ``excess`` changes its sign, on the side of ``inside``, where it is not negative."""
    for _ in range(200):
        middle = 0.5 * (outside + inside)
        if excess(middle) >= 0:
            inside = middle
        else:
            outside = middle
    return inside


def delta_moments(mean: Tensor, logvar: Tensor, delta: float) -> tuple[Tensor, Tensor]:
    """Return moments, of any shape, whose divergence from ``N(0, 1)`` is at least ``delta`` nats in every dimension.

    Razavi et al. (2019), on independent latents, https://arxiv.org/abs/1901.03416:
    ``s = s_low + (s_high - s_low) sigmoid(logvar)``, ``m = sqrt(2 delta + 1 + log s² - s²) + max(0, mean)``, where the
    paper prints the mean without the square root, which would not keep the promise. Where ``mean`` is not positive the
    divergence is ``delta`` exactly.

    Raises:
        ValueError: ``delta`` is not positive.
    """
    low, high = delta_limits(delta)
    variance = (low + (high - low) * logvar.sigmoid()).square()
    # At the limits the root's slope is infinite and that of the variance 0; their product is 0, and not NaN.
    least = (2 * delta + 1 + variance.log() - variance).clamp(min=_SMALLEST_SQUARE).sqrt()
    return least + mean.relu(), variance.log()


def ar1_committed_rate(alpha: Sequence[float] | Tensor, steps: int) -> float:
    """Return the least divergence of a factorized Gaussian over ``steps`` steps from the AR(1) prior, nats.

    ``1/2 sum_i ((n - 2) log(1 + a_i²) - log(1 - a_i²))``: Razavi et al. (2019), on sequential latents,
    https://arxiv.org/abs/1901.03416. It is reached by zero means and the variances ``1 - a²`` at both ends and
    ``(1 - a²) / (1 + a²)`` between.

    Args:
        alpha: Correlation of neighbouring steps, one for each channel ``[C]``, in (-1, 1).
        steps: Length ``n`` of the sequence, at least 2.
    """
    squares = torch.as_tensor(alpha, dtype=torch.float64).square()
    return float(0.5 * ((steps - 2) * torch.log1p(squares) - torch.log1p(-squares)).sum())


def ar1_alpha(rate: float, steps: int, channels: int) -> float:
    """Return the correlation, one for all channels, that commits to ``rate`` nats: see :func:`ar1_committed_rate`."""
    low, high = 0.0, 1.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if channels * ar1_committed_rate([middle], steps) < rate else (low, middle)
    return low


def group_free_bits(rates: Tensor, nats: float, groups: int) -> Tensor:
    """Return ``sum_g max(mean_b sum_{d in g} KL_bd, nats)``, a scalar, for rates per dimension ``[B, *D]``.

    Kingma et al., Improved Variational Inference with Inverse Autoregressive Flow (2016), eq. 15,
    https://arxiv.org/abs/1606.04934: the floor stands under groups of latents, in the paper the feature maps. Groups
    are equal parts of the flattened latent, which for ``[C, H, W]`` and ``groups = C`` are the maps.

    Raises:
        ShapeError: The latent does not divide into ``groups``.
    """
    flat = rates.flatten(1)
    if flat.shape[1] % groups:
        raise ShapeError(
            f"objective.groups: {groups} groups do not divide a latent of {flat.shape[1]} dimensions; choose a divisor"
        )
    return flat.mean(0).view(groups, -1).sum(1).clamp(min=nats).sum()
