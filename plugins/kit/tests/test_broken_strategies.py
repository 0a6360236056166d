"""The kit finds what is wrong with broken training-step strategies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
import torch
from uncollapse.config import StrategyConfig
from uncollapse.model import LatentVariableModel
from uncollapse.protocols import Batch, Learning, Outcome, Progress


class Warming:
    """Joint steps with a pull on the codes that fades with every epoch, done in a wrong way."""

    def __init__(self, mode: str) -> None:
        self.mode, self.calls, self.strength = mode, 0, 1.0

    def __call__(self, learning: Learning, batch: Batch, progress: Progress) -> Outcome:
        self.calls += 1
        outcome = learning.loss(batch, progress)
        only = list(learning.model.encoder.parameters()) if self.mode == "encoder only" else None
        # What the state holds must matter for the next step, or forgetting it would be no mistake.
        pull = self.strength / self.calls * outcome.inference.z.square().mean()
        learning.descend((outcome.total + pull) * (-1 if self.mode == "ascends" else 1), only)
        if self.mode == "attached":
            outcome.terms["loss"] = outcome.total
        if self.mode == "silent":
            del outcome.terms["loss"]
        return outcome

    def epoch_ended(self, model: LatentVariableModel, batches: Callable[[], Iterable[Batch]]) -> None:
        assert not torch.is_grad_enabled()
        self.strength *= 0.5
        if self.mode == "meddles":
            next(model.parameters()).add_(1)

    def state_dict(self) -> dict[str, Any]:
        return {"calls": self.calls} if self.mode == "forgets" else {"calls": self.calls, "strength": self.strength}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.calls, self.strength = state["calls"], state.get("strength", 1.0)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("sound", set()),
        ("encoder only", {"strategy_outcome"}),
        ("silent", {"strategy_outcome"}),
        ("attached", {"strategy_outcome"}),
        ("ascends", {"strategy_learns"}),
        ("meddles", {"strategy_judges_only"}),
        ("forgets", {"strategy_state_round_trip"}),
    ],
)
def test_strategy(mode: str, expected: set[str], failing: Callable[..., set[str]]) -> None:
    assert failing(StrategyConfig, lambda context: Warming(mode)) == expected
