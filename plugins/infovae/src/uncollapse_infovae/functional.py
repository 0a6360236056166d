"""Distances between codes and prior, and directions that reduce them: pure functions on tensors. The core brings
kernels, MMD and log-determinant (:mod:`uncollapse_measures.discrepancy`).

Codes are ``z [..., N, K]`` and draws of the prior ``[..., M, K]``: latents of other shapes come flattened, and leading
dimensions are separate sets. Pairs are made from one matrix product, at most ``pairs_at_once`` of them at a time, so
memory is bounded, under autograd too: what a block needs for its gradient is computed anew. Everything is computed in
float32 at least, whatever the input or autocast.

Zhao, Song and Ermon, InfoVAE: Information Maximizing Variational Autoencoders (2017), section 4.1,
https://arxiv.org/abs/1706.02262v1.
"""

from __future__ import annotations

import torch
from torch import Tensor
from uncollapse_measures.discrepancy import (
    PAIRS_AT_ONCE,
    KernelFunction,
    Statistic,
    at_least_float32,
    inverse_multiquadratic,
    kernel_row_sums,
    log_determinant,
    mmd,
    mmd_with_error,
    rbf,
    squared_distances,
)

__all__ = [
    "PAIRS_AT_ONCE",
    "KernelFunction",
    "Statistic",
    "class_mismatch",
    "inverse_multiquadratic",
    "kernel_row_sums",
    "log_determinant",
    "mmd",
    "mmd_with_error",
    "rbf",
    "squared_distances",
    "stein_direction",
    "stein_discrepancy",
    "stein_surrogate",
]


def stein_direction(z: Tensor, score: Tensor, bandwidth: float | Tensor, pairs_at_once: int = PAIRS_AT_ONCE) -> Tensor:
    """Return the direction in which moving the codes lowers ``KL(q(z) || p(z))``, nats, fastest: ``[..., N, K]``.

    ``phi(z_i) = (1/N) sum_j k(z_i, z_j) grad log p(z_j) + grad_{z_j} k(z_j, z_i)``, the pair ``i = j`` included:
    Zhao et al. (2017), section 4.1.2, after Liu and Wang, Stein Variational Gradient Descent (2016), eq. 8,
    https://arxiv.org/abs/1608.04471, with the Gaussian kernel ``exp(-r² / h)``. Without gradient.

    Args:
        z: Codes ``[..., N, K]``.
        score: ``grad log p`` at the codes, the same shape.
        bandwidth: ``h``.
        pairs_at_once: Pairs held at once.
    """
    with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
        z, score = at_least_float32(z), at_least_float32(score)
        count, directions = z.shape[-2], []
        for some in z.split(max(1, pairs_at_once // count), dim=-2):
            k = rbf(squared_distances(some, z), bandwidth)
            repulsion = (2 / bandwidth) * (k.sum(-1, keepdim=True) * some - k @ z)
            directions.append((k @ score + repulsion) / count)
        return torch.cat(directions, -2)


def stein_surrogate(z: Tensor, direction: Tensor) -> Tensor:
    """Return ``-mean_i z_i . stopgrad(phi_i)``, ``[...]``, whose descent moves the codes along ``phi``.

    Zhao et al. (2017), section 4.1.2, print ``z . stopgrad(phi)`` and subtract it from what is maximised. Descending
    that moves codes against ``phi``, which raises the divergence; the sign here is the one that lowers it. The value
    is no divergence.

    Args:
        z: Codes ``[..., N, K]``.
        direction: :func:`stein_direction` of them.
    """
    return -(at_least_float32(z) * direction.detach()).sum(-1).mean(-1)


def stein_discrepancy(
    z: Tensor, score: Tensor, bandwidth: float | Tensor, pairs_at_once: int = PAIRS_AT_ONCE
) -> Tensor:
    """Return the squared kernelized Stein discrepancy, ``[...]``: the nats that the best direction gains per unit.

    Liu, Lee and Jordan, A Kernelized Stein Discrepancy for Goodness-of-fit Tests (2016), theorem 3.6,
    https://arxiv.org/abs/1602.03253: the mean over all pairs of ``k [s_i . s_j + (2/h) (s_i - s_j) . (z_i - z_j)
    + 2K/h - 4 r²/h²]`` with ``s = grad log p`` and the Gaussian kernel ``exp(-r² / h)``. Never negative. Without
    gradient.
    """
    with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
        z, score = at_least_float32(z), at_least_float32(score)
        count, size = z.shape[-2:]
        at_once = max(1, pairs_at_once // count)
        own = (score * z).sum(-1)
        total = torch.zeros(z.shape[:-2], dtype=z.dtype, device=z.device)
        for first in range(0, count, at_once):
            rows = slice(first, first + at_once)
            z_i, s_i = z[..., rows, :], score[..., rows, :]
            r2 = squared_distances(z_i, z)
            # (s_i - s_j) . (z_i - z_j) without a tensor of all pairs and dimensions.
            slopes = own[..., rows, None] + own[..., None, :] - s_i @ z.mT - z_i @ score.mT
            inside = s_i @ score.mT + (2 / bandwidth) * (slopes + size - (2 / bandwidth) * r2)
            total = total + (rbf(r2, bandwidth) * inside).sum((-2, -1))
        return total / count**2


def class_mismatch(true: Tensor, generated: Tensor) -> Tensor:
    """Return ``sum_c true_c log(true_c / generated_c)`` in nats, a scalar, for two distributions over classes ``[C]``.

    Zhao et al. (2017), section 4.2.1, item 2, who call ``KL(c || c_hat)`` a cross entropy. Infinite where a class
    of the data is never generated.
    """
    true, generated = at_least_float32(true), at_least_float32(generated)
    mismatch: Tensor = (torch.special.xlogy(true, true) - torch.special.xlogy(true, generated)).sum()
    return mismatch
