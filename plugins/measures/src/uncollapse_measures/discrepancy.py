"""How far a set of points lies from draws of a distribution: kernels, maximum mean discrepancy, log-determinant.

Points are ``z [..., N, K]`` and draws ``[..., M, K]``: latents of other shapes come flattened, and leading dimensions
are separate sets. Pairs are made from one matrix product, at most ``pairs_at_once`` of them at a time, so memory is
bounded, under autograd too: what a block needs for its gradient is computed anew. Everything is computed in float32 at
least, whatever the input or autocast.

Zhao, Song and Ermon, InfoVAE: Information Maximizing Variational Autoencoders (2017), section 4.1,
https://arxiv.org/abs/1706.02262v1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from uncollapse.errors import ConfigError, ShapeError

__all__ = [
    "PAIRS_AT_ONCE",
    "KernelFunction",
    "Statistic",
    "at_least_float32",
    "inverse_multiquadratic",
    "kernel_row_sums",
    "log_determinant",
    "mmd",
    "mmd_with_error",
    "rbf",
    "squared_distances",
]

KernelFunction = Callable[[Tensor], Tensor]
"""Squared distances to values of the kernel, elementwise; 1 at distance 0."""

Statistic = Literal["v", "u"]
"""How pairs are averaged: ``v`` with the diagonal, as released; ``u`` without it, unbiased."""

PAIRS_AT_ONCE = 2**22
"""Pairs of codes held at once: 16 MB of float32 for each of the handful of matrices that a kernel makes."""


def rbf(squared_distance: Tensor, bandwidth: float | Tensor) -> Tensor:
    """Return the Gaussian kernel ``exp(-r² / h)`` of ``r²``, elementwise; ``h = 2 sigma²``."""
    return torch.exp(-squared_distance / bandwidth)


def inverse_multiquadratic(squared_distance: Tensor, bandwidth: float | Tensor) -> Tensor:
    """Return the inverse multiquadratic kernel ``h / (h + r²)`` of ``r²``, elementwise.

    Tolstikhin et al., Wasserstein Auto-Encoders (2018), section 4, https://arxiv.org/abs/1711.01558. Its tails are
    heavy, so codes far from the prior still feel it.
    """
    return bandwidth / (bandwidth + squared_distance)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return ``|a_i - b_j|²``, ``[..., N, M]``, for ``a [..., N, K]`` and ``b [..., M, K]``, by one matrix product."""
    with torch.autocast(a.device.type, enabled=False):
        # Distances do not change when both are shifted, and close to the origin the product loses least.
        centre = b.detach().mean(-2, keepdim=True)
        a, b = a - centre, b - centre
        lengths = a.square().sum(-1, keepdim=True) + b.square().sum(-1).unsqueeze(-2)
        return (lengths - 2 * (a @ b.mT)).clamp(min=0)


def kernel_row_sums(a: Tensor, b: Tensor, kernel: KernelFunction, pairs_at_once: int = PAIRS_AT_ONCE) -> Tensor:
    """Return ``sum_j k(a_i, b_j)``, ``[..., N]``, for ``a [..., N, K]`` and ``b [..., M, K]``."""

    at_once = max(1, pairs_at_once // b.shape[-2])
    if a.shape[-2] <= at_once:
        return kernel(squared_distances(a, b)).sum(-1)
    sums: Tensor = _RowSumsInBlocks.apply(a, b, kernel, at_once)  # type: ignore[no-untyped-call]
    return sums


class _RowSumsInBlocks(torch.autograd.Function):
    """Kernel sums that keep their inputs only: the backward pass makes every block of pairs anew."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, kernel: KernelFunction, at_once: int) -> Tensor:
        ctx.save_for_backward(a, b)
        ctx.kernel, ctx.at_once = kernel, at_once
        return torch.cat([kernel(squared_distances(some, b)).sum(-1) for some in a.split(at_once, dim=-2)], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "so many pairs are differentiable once, but a graph of the gradient was asked for (create_graph=True); "
                "raise pairs_at_once"
            )
        a, b = (t.detach() for t in ctx.saved_tensors)
        of_a, of_b = [], torch.zeros_like(b)
        for some, slope in zip(a.split(ctx.at_once, dim=-2), grad.split(ctx.at_once, dim=-1), strict=True):
            with torch.enable_grad():
                leaves = some.requires_grad_(), b.detach().requires_grad_()
                sums = ctx.kernel(squared_distances(*leaves)).sum(-1)
                total = (sums * slope).sum()
            of_some, of_others = torch.autograd.grad(total, leaves)
            of_a.append(of_some)
            of_b += of_others
        return torch.cat(of_a, -2), of_b, None, None


def mmd(
    z: Tensor,
    prior: Tensor,
    kernel: KernelFunction,
    statistic: Statistic = "v",
    pairs_at_once: int = PAIRS_AT_ONCE,
) -> Tensor:
    """Return the squared maximum mean discrepancy, ``[...]``, without a unit: Zhao et al. (2017), section 4.1.3.

    ``mean k(z, z') + mean k(p, p') - 2 mean k(z, p)``. The V-statistic takes the means over all pairs, a point with
    itself included, as the released code does: it is never negative, and above the U-statistic by
    ``(1 - mean k(z, z')) / N + (1 - mean k(p, p')) / M``. The U-statistic leaves a point with itself out, which makes
    it unbiased and lets it be negative.

    Args:
        z: Codes ``[..., N, K]``.
        prior: Draws of the prior ``[..., M, K]``.
        kernel: Of squared distances.
        statistic: ``v`` or ``u``.
        pairs_at_once: Pairs held at once.

    Raises:
        ConfigError: The statistic is neither.
        ShapeError: Shapes do not fit, or a U-statistic was asked of a single point.
    """
    z, prior = _fitting(z, prior, statistic)
    within = _mean_within(kernel_row_sums(z, z, kernel, pairs_at_once), kernel, statistic)
    within_prior = _mean_within(kernel_row_sums(prior, prior, kernel, pairs_at_once), kernel, statistic)
    across = kernel_row_sums(z, prior, kernel, pairs_at_once).mean(-1) / prior.shape[-2]
    return within + within_prior - 2 * across


def mmd_with_error(
    z: Tensor,
    prior: Tensor,
    kernel: KernelFunction,
    statistic: Statistic = "v",
    pairs_at_once: int = PAIRS_AT_ONCE,
) -> tuple[float, float]:
    """Return the squared MMD of two whole sets ``[N, K]`` and ``[M, K]``, in float64, and its standard error.

    The error is that of an average over pairs in which every point stands in many (Hoeffding, 1948): twice the
    deviation of what single points contribute, over the square root of their number, for both sets. Where both
    distributions agree, only the second-order term is left and is counted twice: the error is then too large by a
    factor of about 1.4.

    Raises:
        ConfigError: The statistic is neither ``v`` nor ``u``.
        ShapeError: Shapes do not fit, or a set has fewer than two points.
    """
    z, prior = _fitting(z, prior, "u")
    z, prior = z.double(), prior.double()
    n, m = len(z), len(prior)
    own, theirs = (kernel_row_sums(t, t, kernel, pairs_at_once) for t in (z, prior))
    across = kernel_row_sums(z, prior, kernel, pairs_at_once)
    across_prior = kernel_row_sums(prior, z, kernel, pairs_at_once)
    value = _mean_within(own, kernel, statistic) + _mean_within(theirs, kernel, statistic) - 2 * across.mean() / m
    same = kernel(z.new_zeros(()))
    of_codes = (own - same) / (n - 1) - across / m
    of_prior = (theirs - same) / (m - 1) - across_prior / n
    error = 2 * torch.sqrt(of_codes.var() / n + of_prior.var() / m)
    return value.item(), error.item()


def log_determinant(z: Tensor) -> Tensor:
    """Return ``log det`` of the covariance of codes ``[N, K]``, with N-1, divided by ``K``: a scalar.

    Zhao et al. (2017), section 4.2.1: the average log-variance by which the aggregate posterior is too wide
    (positive) or too narrow (negative) a dimension; 0 for a standard Gaussian. Minus infinity where codes fill no
    more than a plane.

    Raises:
        ShapeError: There are fewer than two codes.
    """
    if z.dim() != 2 or len(z) < 2:
        raise ShapeError(f"log_determinant: expected codes [N, K] with N at least 2, found {tuple(z.shape)}")
    covariance = torch.cov(at_least_float32(z).T).reshape(z.shape[1], z.shape[1])
    determinant: Tensor = torch.linalg.slogdet(covariance).logabsdet
    return determinant / z.shape[1]


def _mean_within(row_sums: Tensor, kernel: KernelFunction, statistic: Statistic) -> Tensor:
    count = row_sums.shape[-1]
    if statistic == "v":
        return row_sums.sum(-1) / count**2
    same = kernel(row_sums.new_zeros(()))
    return (row_sums.sum(-1) - count * same) / (count * (count - 1))


def _fitting(z: Tensor, prior: Tensor, statistic: Statistic) -> tuple[Tensor, Tensor]:
    if statistic not in get_args(Statistic):
        raise ConfigError(f"statistic: expected one of {', '.join(get_args(Statistic))}, found {statistic!r}")
    if z.dim() < 2 or prior.dim() < 2 or z.shape[-1] != prior.shape[-1]:
        raise ShapeError(
            f"expected codes [..., N, K] and draws of the prior [..., M, K], found {tuple(z.shape)} and "
            f"{tuple(prior.shape)}"
        )
    fewest = min(z.shape[-2], prior.shape[-2])
    if fewest < (2 if statistic == "u" else 1):
        raise ShapeError(
            f"an average over pairs of different points needs two of each, found {z.shape[-2]} codes and "
            f"{prior.shape[-2]} draws of the prior; use a larger data.batch_size, more prior_samples, or statistic: v"
        )
    return at_least_float32(z), at_least_float32(prior)


def at_least_float32(t: Tensor) -> Tensor:
    """Return ``t``, of any shape, in float32 where it is in half precision."""
    return t.float() if t.dtype in (torch.bfloat16, torch.float16) else t
