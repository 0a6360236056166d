"""Optimizers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from ..config.component import ComponentConfig, OptimizerConfig

__all__ = ["COMPONENTS", "AdamConfig"]


class AdamConfig(OptimizerConfig):
    """Adam: Kingma and Ba (2015), https://arxiv.org/abs/1412.6980; fused where torch has it."""

    type: Literal["adam"] = "adam"
    lr: float = Field(1e-3, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.0, ge=0)

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.Adam(
            parameters, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay, fused=True
        )


COMPONENTS: tuple[type[ComponentConfig], ...] = (AdamConfig,)
