"""A watcher that warns during training when the rate falls below what counts as a code."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from uncollapse.config import BuildContext, ObserverConfig
from uncollapse.errors import ConfigError
from uncollapse.findings import yardsticks
from uncollapse.inference import Inference
from uncollapse.protocols import Batch, Progress

__all__ = ["CollapseWarning", "CollapseWatch", "Watch", "WatchConfig"]


class CollapseWarning(UserWarning):
    """A model in training has collapsed, or has never used its code."""


class CollapseWatch:
    """A callback for anybody's training loop: ``watch(step, rate, rate_weight=0.3)``.

    The rate bounds the information of the code from above, so a rate below the threshold proves a collapse. Rates are
    averaged over ``window`` steps, and looked at once in as many, so that nobody waits for the device in between. It
    warns once when the rate has fallen below the threshold, and once when it has not risen above it in ``grace`` steps.

    Args:
        threshold: Nats below which the code has collapsed; see :meth:`for_data`.
        window: Steps that are averaged.
        grace: Steps in which the rate may rise for the first time.
        warn: What is done with a message; by default a :class:`CollapseWarning`.

    Raises:
        ConfigError: A number is out of range.

    >>> watch = CollapseWatch(threshold=1.0, window=2, grace=100, warn=print)
    >>> for step, rate in enumerate([3.0, 2.8, 0.4, 0.2, 0.1, 0.1], start=1):
    ...     _ = watch(step, rate, rate_weight=1.0)
    step 4: the rate fell to 0.30 nats, below 1.00, under rate_weight 1: the code has collapsed
    """

    def __init__(
        self,
        threshold: float,
        window: int = 50,
        grace: int = 1000,
        warn: Callable[[str], object] | None = None,
    ) -> None:
        if not threshold > 0 or window < 1 or grace < 0:
            raise ConfigError(
                "CollapseWatch: expected threshold > 0, window >= 1 and grace >= 0, found "
                f"{threshold}, {window} and {grace}"
            )
        self.threshold, self.window, self.grace = threshold, window, grace
        self._warn = warn or (lambda message: warnings.warn(message, CollapseWarning, stacklevel=4))
        self._sum: float | Tensor = 0.0
        self._steps = 0
        self.low = False
        self.has_been_above = False
        self.told: set[str] = set()

    @classmethod
    def for_data(cls, examples: int, classes: int | None = None, **options: Any) -> CollapseWatch:
        """Return a watch with the threshold of the diagnosis: half of ``log C``, or a tenth of ``log N``.

        Args:
            examples: ``N``, examples of the training data.
            classes: ``C``, or None without labels.
            options: Further arguments.
        """
        return cls(yardsticks(math.log(max(2, examples)), classes)[0], **options)

    def __call__(self, step: int, rate: float | Tensor, **weights: float) -> str | None:
        """Take note of a step, and return the warning that was given, or None.

        Args:
            step: Optimizer steps done.
            rate: ``KL(q(z|x) || p(z))`` in nats: of the batch's examples ``[B]``, or their mean.
            weights: What the rate is weighted by, for the message.
        """
        self._sum = self._sum + (rate.detach().mean() if isinstance(rate, Tensor) else rate)
        self._steps += 1
        if self._steps < self.window:
            return None
        mean = float(self._sum) / self._steps
        self._sum, self._steps = 0.0, 0
        self.low = mean < self.threshold
        self.has_been_above |= not self.low
        message = self._message(step, mean, weights)
        if message is not None:
            self._warn(message)
        return message

    def _message(self, step: int, mean: float, weights: Mapping[str, float]) -> str | None:
        finding = "fell" if self.has_been_above else "never rose"
        if not self.low or finding in self.told or (finding == "never rose" and step < self.grace):
            return None
        self.told.add(finding)
        under = ", ".join(f"{name} {value:.3g}" for name, value in weights.items())
        under = f", under {under}" if under else ""
        if finding == "fell":
            return (
                f"step {step}: the rate fell to {mean:.2f} nats, below {self.threshold:.2f}{under}: the code has "
                "collapsed"
            )
        return (
            f"step {step}: the rate is {mean:.2f} nats and has never been above {self.threshold:.2f}{under}: the code "
            "is not used"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return plain values that :meth:`load_state_dict` takes."""
        state = {"sum": float(self._sum), "steps": self._steps, "told": sorted(self.told)}
        return {**state, "low": self.low, "has_been_above": self.has_been_above}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self._sum, self._steps, self.told = state["sum"], state["steps"], set(state["told"])
        self.low, self.has_been_above = state["low"], state["has_been_above"]


class Watch(nn.Module):
    """:class:`CollapseWatch` as an observer of the trainer; what it has seen and said is part of the checkpoint.

    Args:
        nats: The threshold; None for half of ``log C``, without labels a tenth of ``log N``.
        classes: ``C``, or None without labels.
        steps_per_epoch: Steps of an epoch, from which and from the batch follows ``N``.
        window: Steps that are averaged.
        grace_epochs: Epochs in which the rate may rise for the first time.
    """

    weights: Mapping[str, float]
    """Values of schedules, which the trainer sets before each call."""

    def __init__(
        self,
        nats: float | None = None,
        classes: int | None = None,
        steps_per_epoch: int = 1,
        window: int = 50,
        grace_epochs: float = 1.0,
    ) -> None:
        super().__init__()
        self.weights = {}
        self._nats, self._classes, self._steps_per_epoch = nats, classes, steps_per_epoch
        self._options: dict[str, Any] = {"window": window, "grace": round(grace_epochs * steps_per_epoch)}
        self._watch: CollapseWatch | None = None
        self._saved: Mapping[str, Any] | None = None

    @torch.no_grad()
    def forward(self, inference: Inference, batch: Batch, progress: Progress) -> Mapping[str, Tensor]:
        """Take note of a step; return ``collapsed``, a scalar: 1 where the rate was low at the last look."""
        watch = self._watch or self._begin(len(batch))
        watch(progress.step + 1, inference.rate(), **self.weights)
        return {"collapsed": torch.tensor(float(watch.low))}

    def _begin(self, batch_size: int) -> CollapseWatch:
        if self._nats is not None:
            self._watch = CollapseWatch(self._nats, **self._options)
        else:
            self._watch = CollapseWatch.for_data(batch_size * self._steps_per_epoch, self._classes, **self._options)
        if self._saved is not None:
            self._watch.load_state_dict(self._saved)
        return self._watch

    def get_extra_state(self) -> dict[str, Any]:
        """Return what the watch has seen; part of ``state_dict``."""
        return {} if self._watch is None else self._watch.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`get_extra_state` returned."""
        self._saved, self._watch = state or None, None


class WatchConfig(ObserverConfig):
    """Warns during training when the rate falls below what counts as a code: it bounds the mutual information from
    above, Hoffman and Johnson, ELBO surgery (2016).
    """

    type: Literal["watch"] = "watch"
    nats: PositiveFloat | None = Field(
        None, description="rate below which the code has collapsed; null: half of log C, without labels 0.1 log N"
    )
    window: PositiveInt = Field(50, description="steps that are averaged")
    grace_epochs: float = Field(1.0, ge=0, description="epochs in which the rate may rise for the first time")

    def build(self, context: BuildContext) -> Watch:
        """Return the observer."""
        return Watch(self.nats, context.data.classes, context.steps_per_epoch, self.window, self.grace_epochs)
