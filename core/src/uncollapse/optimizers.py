"""Optimizers: those of torch, fused into one kernel where torch can."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from pydantic import Field, field_validator, model_validator
from torch import nn

from .kinds import OptimizerConfig

__all__ = [
    "AdamConfig",
    "AdamFields",
    "AdamWConfig",
    "AdamaxConfig",
    "RMSpropConfig",
    "SGDConfig",
]


def _fused(
    optimizer: type[torch.optim.Optimizer], parameters: Iterable[nn.Parameter], config: OptimizerConfig
) -> torch.optim.Optimizer:
    """Return the optimizer, fused where torch has a kernel for the parameters' device and type."""
    parameters, options = list(parameters), _options(config)
    try:
        return optimizer(parameters, fused=True, **options)  # type: ignore[call-arg]
    except RuntimeError:
        # Which devices have a fused kernel differs between releases of torch, and only the constructor knows.
        return optimizer(parameters, **options)


def _options(config: OptimizerConfig) -> dict[str, Any]:
    # Fields bear the names of torch's arguments.
    return config.model_dump(exclude={"type"})


class AdamFields(OptimizerConfig):
    """Fields that every member of Adam's family has."""

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


class AdamConfig(AdamFields):
    """Adam: Kingma and Ba (2015), algorithm 1, https://arxiv.org/abs/1412.6980; weight decay enters the gradient.

    ``w = w - lr m / (sqrt(v) + eps)`` with running means ``m`` of the gradient and ``v`` of its square, both corrected
    for their start at zero.
    """

    type: Literal["adam"] = "adam"

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return _fused(torch.optim.Adam, parameters, self)


class AdamWConfig(AdamFields):
    """Adam with decoupled weight decay: Loshchilov and Hutter (2019), algorithm 2, https://arxiv.org/abs/1711.05101.

    ``w = w - lr (m / (sqrt(v) + eps) + weight_decay w)``, ``m`` and ``v`` as Adam has them.
    """

    type: Literal["adamw"] = "adamw"
    weight_decay: float = Field(0.01, ge=0, description="decay of the weights at rate lr")

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return _fused(torch.optim.AdamW, parameters, self)


class AdamaxConfig(AdamFields):
    """Adam with the infinity norm: Kingma and Ba (2015), algorithm 2, https://arxiv.org/abs/1412.6980.

    ``w = w - lr m / u`` with Adam's ``m`` and ``u = max(beta_2 u, |g| + eps)`` for the gradient ``g``.
    """

    type: Literal["adamax"] = "adamax"
    lr: float = Field(2e-3, gt=0, description="learning rate")

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.Adamax(list(parameters), **_options(self))


class SGDConfig(OptimizerConfig):
    """Stochastic gradient descent with momentum: Sutskever et al. (2013), section 2, as ``torch.optim.SGD`` has it.

    ``u = momentum u + g``, ``w = w - lr u`` for the gradient ``g``. Text models are often trained with rate 1 and
    no momentum.
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
        return _fused(torch.optim.SGD, parameters, self)


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
        return torch.optim.RMSprop(list(parameters), **_options(self))
