"""Two building blocks that autograd would make slow or inaccurate: small remainders, and a deviation over pairs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["OffDiagonalStd", "expm1_remainders"]


def expm1_remainders(u: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``exp(u) - 1 - u`` and ``exp(-u) - 1 + u``, of the shape of ``u``, accurate near zero."""
    first, second = _Expm1Remainders.apply(u)  # type: ignore[no-untyped-call]
    return first, second


class _Expm1Remainders(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(u)
        square = u * u
        # sinh(u) - u = u³/6 (1 + u²/20 (1 + u²/42 (1 + ...))), and cosh(u) - 1 = 2 sinh²(u/2), for |u| up to 1/2.
        odd = torch.ones_like(u)
        for n in (13, 11, 9, 7, 5) if u.dtype == torch.float64 else (7, 5):
            odd = odd.mul_(square).mul_(1 / (n * (n - 1))).add_(1)
        odd = odd.mul_(square).mul_(u).mul_(1 / 6)
        even = torch.sinh(0.5 * u).square_().mul_(2)
        small = u.abs() < 0.5
        first = torch.where(small, even + odd, torch.expm1(u) - u)
        return first, torch.where(small, even - odd, torch.expm1(-u) + u)

    @staticmethod
    def backward(ctx: Any, grad_first: Tensor, grad_second: Tensor) -> Tensor:
        (u,) = ctx.saved_tensors
        return grad_first * torch.expm1(u) - grad_second * torch.expm1(-u)


class OffDiagonalStd(torch.autograd.Function):
    """Unbiased standard deviation of ``first @ second.T`` off its diagonal; zero slope where all entries are equal.

    One ``[B, B]`` matrix is made, in place, and kept for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor) -> Tensor:
        """Return the scalar for factors ``[B, R]``; entries must not be negative."""
        std, relative, slope = _deviations(first, second)
        ctx.save_for_backward(first, second, relative, slope)
        return std

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of the factors, ``[B, R]``."""
        first, second, relative, slope = ctx.saved_tensors
        with torch.autocast(first.device.type, enabled=False):
            if torch.is_grad_enabled():
                # Somebody will differentiate this: what was kept is constant to autograd, so it is made anew.
                relative, slope = _deviations(first, second)[1:]
            scale = grad * slope
            return scale * (relative @ second), scale * (relative.T @ first)


def _deviations(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the standard deviation, the deviations relative to the mean, and what turns them into its gradient."""
    batch = len(first)
    pairs = batch * (batch - 1)
    relative = (first @ second.T).fill_diagonal_(0)
    # Dividing by the mean keeps squares from under- and overflowing; the deviation is multiplied back.
    mean = (relative.sum() / pairs).clamp(min=torch.finfo(first.dtype).tiny)
    relative = relative.div(mean) if torch.is_grad_enabled() else relative.div_(mean)
    relative = relative.sub_(1).fill_diagonal_(0)
    variance = relative.square().sum() / (pairs - 1)
    # Below the rounding of the entries a deviation is noise, and its slope would be noise of unit length.
    equal = variance <= (16 * torch.finfo(first.dtype).eps) ** 2
    std = torch.where(equal, 1.0, variance).sqrt()
    slope = torch.where(equal, 0.0, 1 / (std * (pairs - 1)))
    return torch.where(equal, 0.0, std * mean), relative, slope
