"""Divergences between the posteriors of a batch: pure functions on tensors.

Everywhere ``mean`` and ``logvar`` are the moments of diagonal Gaussians, ``[B, *D]`` with any event shape, which is
flattened to ``K`` dimensions; values are nats. ``KL(i, j)`` is ``KL(q_i || q_j)``: row ``i`` over column ``j``, with
the variance of ``j`` in the denominator. Averages run over the ordered pairs ``i != j``, ``B (B - 1)`` of them, and
gradients flow into both members of a pair.

Ma, Zhou and Hovy, MAE: Mutual Posterior-Divergence Regularization for Variational AutoEncoders (ICLR 2019),
https://arxiv.org/abs/1901.01498. The released code adds 1e-12 to ``var_j``; nothing here needs it, and leaving it out
moves the reference numbers of the tests by less than 1e-9 nats.

All functions compute in float32 at least, whatever the input or autocast. Moments are centred on the batch first and
``exp`` is only taken of small numbers where posteriors are close, so the divergences of a nearly collapsed batch keep
their relative accuracy: this is where a naive float32 sum returns noise.
"""

from __future__ import annotations

import torch
from torch import Tensor
from uncollapse.errors import ShapeError

from .closed_forms import OffDiagonalStd, expm1_remainders
from .softplus_pairs import SoftplusPairs

__all__ = [
    "diverse_paper",
    "diverse_released",
    "mutual_posterior_divergence",
    "pairwise_kl_per_dimension",
    "pairwise_kl_total",
    "smooth_std",
]


def pairwise_kl_total(mean: Tensor, logvar: Tensor) -> Tensor:
    """Return ``KL(q_i || q_j)`` summed over dimensions, ``[B, B]``, by one matrix product.

    The diagonal is exactly zero. Memory is ``O(B² + B K)``.

    Raises:
        ShapeError: The moments differ in shape, or there are fewer than two examples.
    """
    m, u = _centred(mean, logvar)
    with _full_precision(m):
        first, second = _factors(m, u)
        total = first @ second.T
    return total.masked_fill(torch.eye(len(m), dtype=torch.bool, device=m.device), 0)


def pairwise_kl_per_dimension(mean: Tensor, logvar: Tensor) -> Tensor:
    """Return the mean over pairs of ``KL_k(q_i || q_j)``, ``[K]``, from moments of the moments in ``O(B K)``.

    Raises:
        ShapeError: The moments differ in shape, or there are fewer than two examples.
    """
    m, u = _centred(mean, logvar)
    b = torch.expm1(-u)
    precision = 1 + b
    weighted = m * precision
    batch = len(m)
    # a_i b_j + (a_i - u_i) + (b_j + u_j) as in _factors; the last two sum to a + b = 4 sinh²(u / 2) over a dimension.
    of_variances = torch.expm1(u).sum(0) * b.sum(0) + 4 * batch * torch.sinh(0.5 * u).square().sum(0)
    of_means = m.square().sum(0) * precision.sum(0) - 2 * m.sum(0) * weighted.sum(0) + batch * (m * weighted).sum(0)
    return (of_variances + of_means) / (2 * batch * (batch - 1))


def mutual_posterior_divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """Return the mutual posterior divergence: the mean over pairs of ``KL(q_i || q_j)``, eq. 4, a scalar.

    Raises:
        ShapeError: The moments differ in shape, or there are fewer than two examples.
    """
    return pairwise_kl_per_dimension(mean, logvar).sum()


def smooth_std(mean: Tensor, logvar: Tensor) -> Tensor:
    """Return ``L_smooth``, eq. 6: the standard deviation over pairs of ``KL(q_i || q_j)``, a scalar.

    The paper names no estimator; this is the unbiased one over the ``B (B - 1)`` totals off the diagonal, which is
    what the released code's ``sqrt((B² - 1) / (B² - B - 1))`` comes to. Where all totals agree to rounding (collapse,
    or two posteriors of equal variances) the value and the gradient are zero rather than NaN.

    Raises:
        ShapeError: The moments differ in shape, or there are fewer than two examples.
    """
    m, u = _centred(mean, logvar)
    with _full_precision(m):
        std: Tensor = OffDiagonalStd.apply(*_factors(m, u))  # type: ignore[no-untyped-call]
    return std


def diverse_paper(mean: Tensor, logvar: Tensor) -> Tensor:
    """Return ``L_diverse`` as the paper prints it, eq. 8: the mean over pairs of ``sum_k softplus(-KL_k(i, j))``.

    A scalar, nats, for moments ``[B, *D]``. A close pair is pushed apart however far the others are. Time is
    ``O(B² K)``; memory is a few tiles beside the input. Differentiable once.

    Raises:
        ShapeError: The moments differ in shape, or there are fewer than two examples.
    """
    m, u = _centred(mean, logvar)
    with _full_precision(m):
        value: Tensor = SoftplusPairs.apply(m, u)  # type: ignore[no-untyped-call]
    return value


def diverse_released(mean: Tensor, logvar: Tensor) -> Tensor:
    """Return ``L_diverse`` as the released code computes it: ``sum_k softplus(-mean over pairs of KL_k)``.

    A scalar, nats, for moments ``[B, *D]``. It is at most eq. 8 (Jensen), with equality where all pairs have equal
    divergences; once the mean is large, by one far outlier say, it no longer pushes close pairs apart. Time is
    ``O(B K)``.

    Raises:
        ShapeError: The moments differ in shape, or there are fewer than two examples.
    """
    return torch.nn.functional.softplus(-pairwise_kl_per_dimension(mean, logvar)).sum()


def _factors(m: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``[B, 2 K + 2]`` of the first and of the second member of a pair, whose products are the divergences.

    With ``a = expm1(u)`` and ``b = expm1(-u)``, ``exp(u_i - u_j) - 1 - (u_i - u_j)`` is
    ``a_i b_j + (a_i - u_i) + (b_j + u_j)``, and ``(m_i - m_j)² / var_j`` is
    ``m_i² b_j + m_i² - 2 m_i (m_j / var_j) + m_j² / var_j``. However close to collapse a batch is, no term is larger
    than its divergences are.
    """
    a, b = torch.expm1(u), torch.expm1(-u)
    of_first, of_second = expm1_remainders(u)
    square = m.square()
    weighted = m * (1 + b)
    one = torch.ones_like(m[:, :1])
    row = (of_first + square).sum(1, keepdim=True)
    column = (of_second + m * weighted).sum(1, keepdim=True)
    return torch.cat((a + square, -2 * m, row, one), 1), 0.5 * torch.cat((b, weighted, one, column), 1)


def _centred(mean: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    """Return moments ``[B, K]``, shifted and scaled per dimension so that the batch lies around ``N(0, 1)``.

    The divergence of two Gaussians is invariant under one affine map of both, so shift and scale carry no gradient.
    """
    if mean.shape != logvar.shape or mean.dim() < 2:
        raise ShapeError(f"mean and logvar must both be [B, *D]; found {tuple(mean.shape)} and {tuple(logvar.shape)}")
    if len(mean) < 2:
        raise ShapeError(
            f"mutual divergence needs pairs of examples, but the batch holds {len(mean)}; use a batch of at least 2, "
            "and drop the last one of an epoch where it is shorter"
        )
    if mean.dtype in (torch.bfloat16, torch.float16):
        mean, logvar = mean.float(), logvar.float()
    mean, logvar = mean.flatten(1), logvar.flatten(1)
    centre, width = _centre(mean.detach()), _centre(logvar.detach())
    return (mean - centre) * (-0.5 * width).exp(), logvar - width


def _centre(t: Tensor) -> Tensor:
    """Return the mean over the batch, exact where all rows are equal."""
    first = t[0]
    return first + (t - first).mean(0)


def _full_precision(t: Tensor) -> torch.autocast:
    """Keep autocast from doing matrix products in half precision: pairs that are close would drown in rounding."""
    return torch.autocast(t.device.type, enabled=False)
