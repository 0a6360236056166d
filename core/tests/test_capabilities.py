"""Optional protocols: a part has them by what it defines, wherever that is kept; half of one is an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from uncollapse.capabilities import supports
from uncollapse.errors import PluginError
from uncollapse.protocols import (
    Adversarial,
    Bindable,
    Feedback,
    GroupedSplit,
    JudgesEpochs,
    ReadsText,
    ReportsProgress,
    SeesWeights,
)


class Opposed(nn.Module):
    """Its opponent is a registered submodule, and its rate a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.adversary = nn.Linear(2, 1)
        self.register_buffer("adversary_lr", torch.tensor(1e-3))

    def adversary_loss(self, inference: Any) -> Tensor:
        return torch.zeros(())


class Delegating:
    """Whatever is asked of it, another object answers."""

    def __init__(self, other: object) -> None:
        self.other = other

    def __getattr__(self, name: str) -> Any:
        return getattr(self.other, name)


def test_what_a_module_registers_is_found() -> None:
    assert supports(Opposed(), Adversarial)
    assert supports(Delegating(Opposed()), Adversarial)
    assert not supports(nn.Linear(2, 2), Adversarial)


@pytest.mark.parametrize("missing", ["adversary", "adversary_lr", "adversary_loss"])
def test_half_an_opponent_is_an_error(missing: str) -> None:
    made = Opposed()
    if missing == "adversary_loss":
        kept = {"adversary": made.adversary, "adversary_lr": 1e-3}
    else:
        kept = {n: getattr(made, n) for n in ("adversary", "adversary_lr", "adversary_loss") if n != missing}
    part = type("Half", (), kept)()
    with pytest.raises(PluginError, match=f"Half defines .* and not {missing}; for Adversarial it needs all of them"):
        supports(part, Adversarial)


def test_what_every_module_has_is_no_half_of_anything() -> None:
    assert not supports(nn.Linear(2, 2), Feedback)
    schedule = type("Schedule", (), {"state_dict": lambda self: {}, "__call__": lambda self, step: 1.0})()
    assert not supports(schedule, Feedback)


@pytest.mark.parametrize(
    ("capability", "name"),
    [(Bindable, "bind"), (JudgesEpochs, "epoch_ended"), (ReportsProgress, "progress"), (SeesWeights, "weights")],
)
def test_one_member_is_enough_where_one_is_asked_for(capability: type, name: str) -> None:
    assert supports(type("Part", (), {name: None})(), capability)
    assert not supports(object(), capability)


@pytest.mark.parametrize(("capability", "name"), [(ReadsText, "to_texts"), (GroupedSplit, "mixed")])
def test_the_error_names_what_is_missing(capability: type, name: str) -> None:
    part: Callable[..., Any] = type("Part", (), {name: None})
    with pytest.raises(PluginError, match=f"Part defines {name} and not"):
        supports(part(), capability)
