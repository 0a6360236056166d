"""DU-VAE's transforms and measures as pure functions on tensors.

Shen, Qin, Wang, Zhu, Chen and Xiong, Regularizing Variational Autoencoder with Diversity and Uncertainty Awareness
(2021), https://arxiv.org/abs/2110.12381. Moments are those of diagonal Gaussians, ``[N, *D]``; values are nats.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = [
    "FLOOR",
    "conditional_entropy",
    "divergence_bound",
    "divergence_under_dropout",
    "drop_variance",
    "floor_variance",
    "rescale",
]

FLOOR = 1 / (2 * math.pi * math.e)
"""``alpha``, section 3.1: the variance of a Gaussian whose differential entropy is zero."""


def floor_variance(logvar: Tensor, floor: float = FLOOR) -> Tensor:
    """Return ``log(exp(logvar) + floor)``, of any shape: noise of variance ``floor`` on the latent, section 3.1."""
    return torch.logaddexp(logvar, logvar.new_full((), math.log(floor)))


def drop_variance(logvar: Tensor, kept: Tensor, keep: float, floor: float = FLOOR) -> Tensor:
    """Return ``log(g (var - floor) + floor)`` with ``g = kept / keep``, eq. 6, for the variance above its floor.

    The expectation over independent ``kept`` is the floored variance; what is dropped has exactly ``floor``.

    Args:
        logvar: Log-variance before the floor, ``[N, *D]``: ``var - floor = exp(logvar)``.
        kept: 1 where an entry is kept, 0 where it is dropped, one for each example and dimension.
        keep: Probability ``p`` of 1. The released code's ``p_drop`` is ``1 - p``.
        floor: ``alpha``.
    """
    least = logvar.new_full((), math.log(floor))
    # Not with a logarithm of 0 for what is dropped: the sum's second derivative would be no number there.
    return torch.where(kept > 0, torch.logaddexp(logvar - math.log(keep), least), least)


def rescale(weight: Tensor, gamma: float) -> Tensor:
    """Return ``weight``, of any shape, times ``gamma / sqrt(mean of weight²)``: algorithm 1, line 9.

    It fixes the sum of the squares only; single ones may go to zero. What is rescaled already comes back bit for bit.
    """
    factor = gamma / weight.square().mean().sqrt()
    rounding = 8 * torch.finfo(weight.dtype).eps
    return weight * torch.where((factor - 1).abs() <= rounding, torch.ones_like(factor), factor)


def conditional_entropy(logvar: Tensor) -> Tensor:
    """Return the mean differential entropy of the posteriors in every dimension, ``[K]``: eq. 4 and 5."""
    return 0.5 * (logvar.flatten(1).double().mean(0) + math.log(2 * math.pi * math.e))


def divergence_under_dropout(mean: Tensor, logvar: Tensor, keep: float, floor: float = FLOOR) -> Tensor:
    """Return the divergence of independent pairs with independent dropout, averaged over it, ``[K]``: proposition 1.

    Args:
        mean: ``[N, *D]``.
        logvar: Log-variance with its floor, the same shape.
        keep: Probability ``p`` that a variance is kept.
        floor: ``alpha``.
    """
    m, v = mean.flatten(1).double(), logvar.flatten(1).double().exp()
    precision = keep / ((v - floor) / keep + floor) + (1 - keep) / floor
    # Of both members of a pair, each with the distribution of the data and a dropout of its own.
    squares = m.square().mean(0) * precision.mean(0) + (m.square() * precision).mean(0)
    distances = squares - 2 * m.mean(0) * (m * precision).mean(0)
    return 0.5 * (distances + v.mean(0) * precision.mean(0) - 1)


def divergence_bound(variances: float, keep: float, floor: float = FLOOR) -> float:
    """Return the lower bound of the divergence under dropout, eq. 8: ``(1 - p) / alpha`` times the means' variances.

    Args:
        variances: Variances of the posterior means over the data, summed over dimensions: ``n gamma²`` where they are
            batch-normalized.
        keep: Probability ``p`` that a variance is kept.
        floor: ``alpha``.
    """
    return (1 - keep) / floor * variances
