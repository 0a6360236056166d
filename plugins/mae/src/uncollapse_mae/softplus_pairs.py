"""Equation 8 of the paper: a softplus of every pair and dimension, in bounded memory.

The softplus stands between the pairs and the sum, so nothing collapses into moments or one matrix product: all
``B * B * K`` values have to be visited. They are visited once, in tiles that stay in cache, and the gradient, which
is known in closed form, is summed up in the same sweep. Memory is a few tiles, whatever ``B`` and ``K``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["SoftplusPairs"]

# Three tiles of float32 are 12 MB, which a CPU's last-level cache holds; an accelerator wants fewer, larger launches.
_CPU_TILE_ELEMENTS = 1 << 20
_ACCELERATOR_TILE_ELEMENTS = 1 << 21
_TILE_ROWS = 256


@dataclass(frozen=True)
class _Factors:
    """What makes up ``-KL_k(i, j) = g_j + v_i p_j + h_i - s²`` with ``s = o_j + m_i r_j``, each ``[K, B]``.

    The groups are: half the difference of log-variances with the constant, ``-var_i / (2 var_j)``, and
    ``(mean_i - mean_j)² / (2 var_j)``. ``a`` and ``b`` are ``var - 1`` and ``1 / var - 1`` without cancellation: the
    gradient holds ``var_i / var_j - 1 = a_i p_j + b_j``, which vanishes with collapse.
    """

    m: Tensor
    r: Tensor
    o: Tensor
    v: Tensor
    p: Tensor
    h: Tensor
    g: Tensor
    a: Tensor
    b: Tensor

    @classmethod
    def of(cls, mean: Tensor, logvar: Tensor) -> _Factors:
        r, half = (-0.5 * logvar).exp() * 0.5**0.5, 0.5 * logvar
        return cls(
            m=mean,
            r=r,
            o=-mean * r,
            v=-0.5 * logvar.exp(),
            p=(-logvar).exp(),
            h=half + 0.5,
            g=-half,
            a=logvar.expm1(),
            b=(-logvar).expm1(),
        )

    def columns(self, dims: slice) -> _Factors:
        """Every example as the second of its pairs, ``[k, 1, B]``."""
        return _Factors(*(t[dims, None, :] for t in vars(self).values()))

    def rows(self, dims: slice, rows: slice) -> _Factors:
        """Some examples as the first of their pairs, ``[k, rows, 1]``."""
        return _Factors(*(t[dims, rows, None] for t in vars(self).values()))


class SoftplusPairs(torch.autograd.Function):
    """``mean over ordered pairs i != j of sum_k softplus(-KL_k(i, j))``: Ma et al. (2019), eq. 8.

    Differentiable once: the backward pass only scales what the forward pass has summed up.
    """

    @staticmethod
    def forward(ctx: Any, mean: Tensor, logvar: Tensor) -> Tensor:
        """Return the scalar for ``mean`` and ``logvar`` ``[B, K]``, both centred by their caller."""
        needed = any(ctx.needs_input_grad)
        value, grad_mean, grad_logvar = _sweep(mean.T.contiguous(), logvar.T.contiguous(), needed)
        if needed:
            ctx.save_for_backward(grad_mean, grad_logvar)
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients ``[B, K]``.

        Raises:
            RuntimeError: A graph of the gradient was asked for; what is kept is constant to autograd.
        """
        if torch.is_grad_enabled():
            raise RuntimeError(
                "mae.mutual_divergence: L_diverse of eq. 8 (variant 'paper') is differentiable once, but a graph of "
                "its gradient was asked for (create_graph=True); use variant 'released', whose gradient has one"
            )
        grad_mean, grad_logvar = ctx.saved_tensors
        return grad * grad_mean.T, grad * grad_logvar.T


def _sweep(mean: Tensor, logvar: Tensor, with_gradient: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return the value and its gradients ``[K, B]`` for moments ``[K, B]``."""
    size, batch = mean.shape
    tile = _CPU_TILE_ELEMENTS if mean.device.type == "cpu" else _ACCELERATOR_TILE_ELEMENTS
    step_rows = max(1, min(batch, _TILE_ROWS, tile // batch))
    step_dims = max(1, min(size, tile // (step_rows * batch)))
    factors = _Factors.of(mean, logvar)
    buffers = mean.new_empty(3, step_dims * step_rows * batch)
    value = mean.new_zeros(())
    grad_mean, grad_logvar = torch.zeros_like(mean), torch.zeros_like(mean)
    for first_dim in range(0, size, step_dims):
        dims = slice(first_dim, min(first_dim + step_dims, size))
        column = factors.columns(dims)
        for first_row in range(0, batch, step_rows):
            rows = slice(first_row, min(first_row + step_rows, batch))
            row = factors.rows(dims, rows)
            shape = (dims.stop - dims.start, rows.stop - rows.start, batch)
            s, w, scratch = (b[: shape[0] * shape[1] * shape[2]].view(shape) for b in buffers)
            _weights(row, column, s, w)
            w.diagonal(offset=first_row, dim1=1, dim2=2).zero_()
            # softplus(-KL) = -log(1 - sigmoid(-KL)): one transcendental gives both the value and its derivative.
            value -= torch.log1p(torch.neg(w, out=scratch), out=scratch).sum()
            if with_gradient:
                _accumulate(row, column, s, w, scratch, grad_mean[dims], grad_logvar[dims], rows)
    pairs = batch * (batch - 1)
    return value / pairs, grad_mean.div_(-pairs), grad_logvar.div_(-pairs)


def _weights(row: _Factors, column: _Factors, s: Tensor, w: Tensor) -> None:
    """Fill ``s`` with the scaled difference of means and ``w`` with ``sigmoid(-KL)``."""
    torch.addcmul(column.o, row.m, column.r, out=s)
    torch.addcmul(column.g, row.v, column.p, out=w).add_(row.h).addcmul_(s, s, value=-1).sigmoid_()


def _accumulate(
    row: _Factors, column: _Factors, s: Tensor, w: Tensor, scratch: Tensor, mean: Tensor, logvar: Tensor, rows: slice
) -> None:
    """Add the tile's ``sum w dKL`` to the gradients ``[k, B]``; overwrites ``s``."""
    w_column = torch.bmm(torch.cat((row.a, torch.ones_like(row.a)), 2).mT, w)
    w_row, wb_row = w.sum(2), torch.mul(w, column.b, out=scratch).sum(2)
    logvar[:, rows] += 0.5 * (row.a[..., 0] * (w_row + wb_row) + wb_row)
    logvar -= 0.5 * (column.p[:, 0] * w_column[:, 0] + column.b[:, 0] * w_column[:, 1])
    ws = s.mul_(w)
    ws_column = torch.bmm(torch.cat((row.m, torch.ones_like(row.m)), 2).mT, ws)
    mean[:, rows] += 2 * torch.mul(ws, column.r, out=scratch).sum(2)
    mean -= 2 * column.r[:, 0] * ws_column[:, 1]
    # sum_i w s² with one factor s written out: cancellation stays linear in the distance to the centre.
    logvar -= column.r[:, 0] * ws_column[:, 0] + column.o[:, 0] * ws_column[:, 1]
