"""Adam on normalized gradients, with which the released models of hierarchies and learned priors are trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from uncollapse.optimizers import AdamFields

__all__ = ["AdamNormGrad", "AdamNormGradConfig"]

_NORM_EPSILON = 1e-7


class AdamNormGrad(torch.optim.Optimizer):
    """Adam on gradients of norm 1: Yu et al., Block-Normalized Gradient Method (2017), https://arxiv.org/abs/1707.04822,
    as in the released code of Tomczak and Welling, VAE with a VampPrior (2018), https://arxiv.org/abs/1705.07120.

    Each parameter's gradient is divided by its own norm plus 1e-7. Unlike in ``torch.optim.Adam``, ``eps`` is added to
    the second moment's root before its bias is corrected.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate.
        betas: Decay of the two running moments.
        eps: Added to the root of the second moment.
        weight_decay: Times the parameter, added to the normalized gradient.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 5e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step; returns the closure's loss if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._step([p for p in group["params"] if p.grad is not None], group)
        return loss

    def _step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        if not parameters:
            return
        for p in parameters:
            if not self.state[p]:
                self.state[p] = {"step": 0, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
            self.state[p]["step"] += 1
        states = [self.state[p] for p in parameters]
        (first, second), eps, decay = group["betas"], group["eps"], group["weight_decay"]
        gradients: list[Tensor] = [p.grad for p in parameters if p.grad is not None]
        norms = torch._foreach_norm(gradients)
        torch._foreach_add_(norms, _NORM_EPSILON)
        gradients = list(torch._foreach_div(gradients, norms))
        if decay:
            torch._foreach_add_(gradients, parameters, alpha=decay)
        means, squares = [s["exp_avg"] for s in states], [s["exp_avg_sq"] for s in states]
        torch._foreach_lerp_(means, gradients, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - second)
        roots = torch._foreach_sqrt(squares)
        torch._foreach_add_(roots, eps)
        rates = [-group["lr"] * math.sqrt(1 - second ** s["step"]) / (1 - first ** s["step"]) for s in states]
        torch._foreach_addcdiv_(parameters, means, roots, rates)


class AdamNormGradConfig(AdamFields):
    """Adam on gradients of norm 1, each parameter's by itself: Yu et al. (2017), https://arxiv.org/abs/1707.04822, as
    VampPrior's released code has it (Tomczak and Welling, 2018, https://arxiv.org/abs/1705.07120).

    Adam's step with ``g / (|g| + 1e-7)`` in the place of every parameter's gradient ``g``.
    """

    type: Literal["adam_norm_grad"] = "adam_norm_grad"
    lr: float = Field(5e-4, gt=0, description="learning rate")

    def build(self, parameters: Iterable[nn.Parameter]) -> AdamNormGrad:
        """Return the optimizer."""
        return AdamNormGrad(list(parameters), self.lr, self.betas, self.eps, self.weight_decay)
