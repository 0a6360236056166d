"""Learning rates that react to validation: decay on a plateau."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import Field
from uncollapse.config import BuildContext, LearningRateConfig
from uncollapse.protocols import Reaction

__all__ = ["PlateauConfig", "PlateauSchedule"]


class PlateauSchedule:
    """Multiply the rate by ``factor`` when validation has not improved for ``patience`` validations.

    Released code of MAE (Ma et al., 2019, https://arxiv.org/abs/1901.01498) and of lagging inference networks (He et
    al., 2019, https://arxiv.org/abs/1901.05534), which agree on fresh moments after a decay and on an end after some
    decays.

    Args:
        patience: Validations without improvement before a decay.
        factor: Of one decay.
        max_decays: The run ends at this decay; None for never.
        min_factor: The run ends at a validation at which the factor lies below this, through decays or steps.
        decay_per_step: Factor of every optimizer step, besides.
        from_step: Decays happen from here on.
        reset_optimizer: Fresh moments after a decay.
        reload_best: Back to the best weights at a decay.
        forget_best: After a decay, the current loss is the one to improve on, worse though it is.
    """

    def __init__(
        self,
        patience: int,
        factor: float = 0.5,
        max_decays: int | None = None,
        min_factor: float = 0.0,
        decay_per_step: float = 1.0,
        from_step: int = 0,
        *,
        reset_optimizer: bool = True,
        reload_best: bool = False,
        forget_best: bool = False,
    ) -> None:
        self.patience, self.factor, self.max_decays, self.min_factor = patience, factor, max_decays, min_factor
        self.decay_per_step, self.from_step = decay_per_step, from_step
        self.reset_optimizer, self.reload_best, self.forget_best = reset_optimizer, reload_best, forget_best
        self.best: float | None = None
        self.stale = 0
        self.decays = 0

    def __call__(self, step: int) -> float:
        """Return the factor on the optimizer's rate."""
        return float(self.factor**self.decays * self.decay_per_step**step)

    def validated(self, loss: float, step: int) -> Reaction:
        """Count a validation; decay when patience has run out."""
        if self.best is None or loss < self.best:
            self.best, self.stale = loss, 0
            return Reaction(stop=self(step) < self.min_factor)
        self.stale += 1
        if self.stale < self.patience or step < self.from_step:
            return Reaction(stop=self(step) < self.min_factor)
        self.decays += 1
        self.stale = 0
        if self.forget_best:
            self.best = loss
        stop = (self.max_decays is not None and self.decays >= self.max_decays) or self(step) < self.min_factor
        return Reaction(self.reset_optimizer, self.reload_best, stop)

    def state_dict(self) -> dict[str, Any]:
        """Return best loss, validations without improvement and decays so far."""
        return {"best": self.best, "stale": self.stale, "decays": self.decays}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.best, self.stale, self.decays = state["best"], int(state["stale"]), int(state["decays"])


class PlateauConfig(LearningRateConfig):
    """Decay when validation stagnates: the released code of MAE (Ma et al., 2019, https://arxiv.org/abs/1901.01498) and
    of lagging inference networks (He et al., 2019, https://arxiv.org/abs/1901.05534), which DU-VAE follows.

    ``factor ** decays * decay_per_step ** steps``. MAE: patience 21 (it decays once 20 are exceeded), factor 0.5,
    max_decays 3, min_factor 0.05, decay_per_step 0.999998.
    Lagging, DU-VAE: patience 2 or 5, max_decays 5, from_epoch 15, reload_best, forget_best.
    """

    type: Literal["plateau"] = "plateau"
    patience: int = Field(20, ge=1, description="validations without improvement before a decay")
    factor: float = Field(0.5, gt=0, lt=1, description="multiplies the rate at a decay")
    max_decays: int | None = Field(3, ge=1, description="the run ends at this decay; null for never")
    min_factor: float = Field(0.0, ge=0, lt=1, description="the run ends where the factor falls below this")
    decay_per_step: float = Field(1.0, gt=0, le=1, description="factor of every optimizer step, besides")
    from_epoch: float = Field(0.0, ge=0, description="decays happen from this epoch on")
    reset_optimizer: bool = Field(True, description="fresh moments after a decay")
    reload_best: bool = Field(False, description="back to the best checkpoint's weights at a decay")
    forget_best: bool = Field(False, description="after a decay, improve on the current loss instead of the best")

    def build(self, context: BuildContext) -> Callable[[int], float]:
        """Return the schedule."""
        return PlateauSchedule(
            self.patience,
            self.factor,
            self.max_decays,
            self.min_factor,
            self.decay_per_step,
            round(self.from_epoch * context.steps_per_epoch),
            reset_optimizer=self.reset_optimizer,
            reload_best=self.reload_best,
            forget_best=self.forget_best,
        )
