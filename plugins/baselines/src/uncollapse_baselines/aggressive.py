"""Aggressive training of the inference network, while it lags behind."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from uncollapse import LatentVariableModel
from uncollapse.config import BuildContext, StrategyConfig
from uncollapse.estimators import MutualInformation
from uncollapse.protocols import Batch, Learning, Outcome, Progress

__all__ = ["Aggressive", "AggressiveConfig"]

_TYPE = "baselines.aggressive"


class Aggressive:
    """Many steps of the inference network for one of the decoder, until the mutual information stops growing: He et
    al., Lagging Inference Networks and Posterior Collapse in Variational Autoencoders (2019), algorithm 1,
    https://arxiv.org/abs/1901.05534, with the conditions of its released code.

    The inference network's first step is on the batch, the others are on random ones; they end when the mean loss of
    ``check_every`` steps is above that of the ``check_every`` before. Then the decoder, and everything else that is
    learned, takes its step on the batch. After every epoch the mutual information on the validation split decides:
    ``patience`` epochs without a new best one, in a row or not, and training goes on with joint steps for good.

    Args:
        max_steps: Steps of the inference network for a batch, at most.
        check_every: Steps between two looks at the loss: 10 in the released code for images, 15 for texts.
        patience: Epochs: 5 in the released code for images, 1 for texts.
        mutual_information: How it is estimated: ``minibatch`` as released, or ``analytic``, from the whole split.
        padding: Tokens that do not count, for texts, whose losses are averaged per token; None for a mean per example.
    """

    def __init__(
        self,
        max_steps: int = 99,
        check_every: int = 10,
        patience: int = 5,
        mutual_information: Literal["minibatch", "analytic"] = "minibatch",
        padding: int | None = None,
    ) -> None:
        self.max_steps, self.check_every, self.patience, self.padding = max_steps, check_every, patience, padding
        self._estimator = MutualInformation(mutual_information)
        self.active, self.misses, self.best = True, 0, 0.0
        self.mutual_information: float | None = None

    def __call__(self, learning: Learning, batch: Batch, progress: Progress) -> Outcome:
        """Train on a batch; adds ``inner_steps`` to the terms, and to the weights whether training is aggressive."""
        was_active, steps = self.active, 0
        network = [*learning.model.encoder.parameters(), *learning.model.posterior.parameters()]
        if was_active:
            steps = self._catch_up(learning, network, batch, progress)
        outcome = learning.loss(batch, progress)
        learning.descend(outcome.total, _others(learning, network) if was_active else None)
        terms = {**outcome.terms, f"{_TYPE}/inner_steps": torch.tensor(float(steps), device=outcome.total.device)}
        weights = {**outcome.weights, f"{_TYPE}/active": float(was_active)}
        if self.mutual_information is not None:
            weights[f"{_TYPE}/mutual_information"] = self.mutual_information
        return outcome._replace(terms=terms, weights=weights)

    def epoch_ended(self, model: LatentVariableModel, batches: Callable[[], Iterable[Batch]]) -> None:
        """Measure the mutual information, and decide whether training goes on aggressively."""
        if not self.active:
            return
        (found,) = self._estimator(model, batches).values()
        self.mutual_information = found.value
        if found.value < self.best:
            self.misses += 1
        else:
            self.best = found.value
        self.active = self.misses < self.patience

    def state_dict(self) -> dict[str, Any]:
        """Return where it stands, plain numbers."""
        return {
            "active": self.active,
            "misses": self.misses,
            "best": self.best,
            "mutual_information": self.mutual_information,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.active, self.misses, self.best = bool(state["active"]), int(state["misses"]), float(state["best"])
        self.mutual_information = state["mutual_information"]

    def _catch_up(self, learning: Learning, network: list[nn.Parameter], batch: Batch, progress: Progress) -> int:
        before = math.inf
        total, count = torch.zeros(()), torch.zeros(())
        for step in range(1, self.max_steps + 1):
            outcome = learning.loss(batch, progress)
            learning.descend(outcome.total, network)
            loss = outcome.terms["loss"]
            total = total.to(loss) + loss * len(batch)
            count = count.to(loss) + self._weight(batch)
            if step % self.check_every == 0:
                mean = (learning.mean_over_processes(total) / learning.mean_over_processes(count)).item()
                if mean > before:
                    return step
                before, total, count = mean, torch.zeros(()), torch.zeros(())
            if step < self.max_steps:
                batch = learning.random_batch()
        return self.max_steps

    def _weight(self, batch: Batch) -> Tensor | int:
        return len(batch) if self.padding is None else (batch.x != self.padding).sum()


def _others(learning: Learning, network: list[nn.Parameter]) -> list[nn.Parameter]:
    inside = {id(parameter) for parameter in network}
    return [parameter for parameter in learning.parameters if id(parameter) not in inside]


class AggressiveConfig(StrategyConfig):
    """Aggressive training of a lagging inference network: He et al. (2019), algorithm 1,
    https://arxiv.org/abs/1901.05534. For texts: check_every 15, patience 1.
    """

    type: Literal["baselines.aggressive"] = "baselines.aggressive"
    max_steps: PositiveInt = Field(99, description="steps of the inference network for a batch, at most")
    check_every: PositiveInt = Field(10, description="steps between two looks at the loss; released: 10, texts 15")
    patience: PositiveInt = Field(
        5, description="epochs without a new best mutual information, after which steps are joint; released: 5, texts 1"
    )
    mutual_information: Literal["minibatch", "analytic"] = Field(
        "minibatch", description="the aggregate of minibatches, as released, or of the whole validation split"
    )

    def build(self, context: BuildContext) -> Aggressive:
        """Return the strategy."""
        special = context.data.special
        padding = None if special is None else special.padding
        return Aggressive(self.max_steps, self.check_every, self.patience, self.mutual_information, padding)
