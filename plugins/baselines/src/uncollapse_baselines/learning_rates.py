"""Learning rates of released code: a decay at every step, and a rise followed by a decay with the epochs' root."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from pydantic import Field
from uncollapse.config import BuildContext, LearningRateConfig

__all__ = ["ExponentialConfig", "NoamConfig"]


class ExponentialConfig(LearningRateConfig):
    """``decay ** step``: the per-step decay of MAE's released code (Ma et al., 2019, https://arxiv.org/abs/1901.01498)."""

    type: Literal["exponential"] = "exponential"
    decay: float = Field(0.999998, gt=0, le=1, description="factor per optimizer step")

    def build(self, context: BuildContext) -> Callable[[int], float]:
        """Return the schedule."""
        return lambda step: self.decay**step


class NoamConfig(LearningRateConfig):
    """``sqrt(w) * min(e * w**-1.5, e**-0.5)`` in epoch ``e`` counted from 1: Vaswani et al., Attention Is All You Need
    (2017), eq. 3, https://arxiv.org/abs/1706.03762, scaled to peak at 1 and advanced by epoch as MIM's released code
    does.
    """

    type: Literal["noam"] = "noam"
    warmup_epochs: int = Field(3, ge=1, description="epoch w in which the factor is 1")

    def build(self, context: BuildContext) -> Callable[[int], float]:
        """Return the schedule."""

        def factor(step: int) -> float:
            w, epoch = self.warmup_epochs, step // context.steps_per_epoch + 1
            return math.sqrt(w) * min(epoch / math.sqrt(w**3), 1 / math.sqrt(epoch))

        return factor
