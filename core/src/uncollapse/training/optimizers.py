"""Optimizers: those of torch, fused into one kernel where torch can, and Adam on normalized gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from ..config.component import ComponentConfig, OptimizerConfig

__all__ = [
    "COMPONENTS",
    "AdamConfig",
    "AdamNormGrad",
    "AdamNormGradConfig",
    "AdamWConfig",
    "AdamaxConfig",
    "RMSpropConfig",
    "SGDConfig",
]

_NORM_EPSILON = 1e-7


def _fused(
    optimizer: type[torch.optim.Optimizer], parameters: Iterable[nn.Parameter], **options: Any
) -> torch.optim.Optimizer:
    """Return the optimizer, fused where torch has a kernel for the parameters' device and type."""
    parameters = list(parameters)
    try:
        return optimizer(parameters, fused=True, **options)  # type: ignore[call-arg]
    except RuntimeError:
        # Which devices have a fused kernel differs between releases of torch, and only the constructor knows.
        return optimizer(parameters, **options)


class _AdamFields(OptimizerConfig):
    lr: float = Field(1e-3, gt=0, description="learning rate")
    betas: tuple[float, float] = Field((0.9, 0.999), description="decay of the two running moments, each in [0, 1)")
    eps: float = Field(1e-8, gt=0, description="added to the denominator")
    weight_decay: float = Field(0.0, ge=0, description="factor of the weights that is added to their gradient")

    @field_validator("betas")
    @classmethod
    def _decays(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= b < 1 for b in betas):
            raise ValueError(f"both must lie in [0, 1), found {list(betas)}")
        return betas


class AdamConfig(_AdamFields):
    """Adam: Kingma and Ba (2015), algorithm 1, https://arxiv.org/abs/1412.6980; weight decay enters the gradient.

    ``w = w - lr m / (sqrt(v) + eps)`` with running means ``m`` of the gradient and ``v`` of its square, both corrected
    for their start at zero.
    """

    type: Literal["adam"] = "adam"

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer."""
        options = {"lr": self.lr, "betas": self.betas, "eps": self.eps, "weight_decay": self.weight_decay}
        return _fused(torch.optim.Adam, parameters, **options)


class AdamWConfig(_AdamFields):
    """Adam with decoupled weight decay: Loshchilov and Hutter (2019), algorithm 2, https://arxiv.org/abs/1711.05101.

    ``w = w - lr (m / (sqrt(v) + eps) + weight_decay w)``, ``m`` and ``v`` as Adam has them.
    """

    type: Literal["adamw"] = "adamw"
    weight_decay: float = Field(0.01, ge=0, description="decay of the weights at rate lr")

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer."""
        options = {"lr": self.lr, "betas": self.betas, "eps": self.eps, "weight_decay": self.weight_decay}
        return _fused(torch.optim.AdamW, parameters, **options)


class AdamaxConfig(_AdamFields):
    """Adam with the infinity norm: Kingma and Ba (2015), algorithm 2, https://arxiv.org/abs/1412.6980.

    ``w = w - lr m / u`` with Adam's ``m`` and ``u = max(beta_2 u, |g| + eps)`` for the gradient ``g``.
    """

    type: Literal["adamax"] = "adamax"
    lr: float = Field(2e-3, gt=0, description="learning rate")

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.Adamax(
            list(parameters), lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay
        )


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


class AdamNormGradConfig(_AdamFields):
    """Adam on gradients of norm 1, each parameter's by itself: Yu et al. (2017), https://arxiv.org/abs/1707.04822, as
    VampPrior's released code has it (Tomczak and Welling, 2018, https://arxiv.org/abs/1705.07120).

    Adam's step with ``g / (|g| + 1e-7)`` in the place of every parameter's gradient ``g``.
    """

    type: Literal["adam_norm_grad"] = "adam_norm_grad"
    lr: float = Field(5e-4, gt=0, description="learning rate")

    def build(self, parameters: Iterable[nn.Parameter]) -> AdamNormGrad:
        """Return the optimizer."""
        return AdamNormGrad(list(parameters), self.lr, self.betas, self.eps, self.weight_decay)


class SGDConfig(OptimizerConfig):
    """Stochastic gradient descent with momentum: Sutskever et al. (2013), section 2, as ``torch.optim.SGD`` has it.

    ``u = momentum u + g``, ``w = w - lr u`` for the gradient ``g``. DU-VAE and lagging inference networks train their
    text models with rate 1 and no momentum.
    """

    type: Literal["sgd"] = "sgd"
    lr: float = Field(gt=0, description="learning rate", examples=[0.1])
    momentum: float = Field(0.0, ge=0, lt=1, description="share of the last step that is kept")
    nesterov: bool = Field(False, description="whether the gradient is looked up where momentum leads")
    weight_decay: float = Field(0.0, ge=0, description="factor of the weights that is added to their gradient")

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> SGDConfig:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: true needs a momentum above 0")
        return self

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer."""
        options = {"momentum": self.momentum, "nesterov": self.nesterov, "weight_decay": self.weight_decay}
        return _fused(torch.optim.SGD, parameters, lr=self.lr, **options)


class RMSpropConfig(OptimizerConfig):
    """RMSprop: Hinton, Neural Networks for Machine Learning (2012), lecture 6e, as ``torch.optim.RMSprop`` has it.

    ``w = w - lr g / (sqrt(v) + eps)`` for the gradient ``g`` and the running mean ``v`` of its square.
    """

    type: Literal["rmsprop"] = "rmsprop"
    lr: float = Field(1e-3, gt=0, description="learning rate")
    alpha: float = Field(0.99, ge=0, lt=1, description="decay of the running mean of squared gradients")
    eps: float = Field(1e-8, gt=0, description="added to the denominator")
    momentum: float = Field(0.0, ge=0, lt=1, description="share of the last step that is kept")
    weight_decay: float = Field(0.0, ge=0, description="factor of the weights that is added to their gradient")

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.RMSprop(
            list(parameters),
            lr=self.lr,
            alpha=self.alpha,
            eps=self.eps,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )


COMPONENTS: tuple[type[ComponentConfig], ...] = (
    AdamConfig,
    AdamNormGradConfig,
    AdamWConfig,
    AdamaxConfig,
    RMSpropConfig,
    SGDConfig,
)
