"""The bar that `uncollapse sample` shows on a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from uncollapse.cli import samples
from uncollapse.samplers import AncestralSampler


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_only_on_a_terminal(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(samples, "Console", lambda stderr: Console(file=screen, force_terminal=terminal, width=80))
    draw = AncestralSampler()
    with samples._watched(draw):
        assert (draw.progress is not None) == terminal
        if draw.progress is not None:
            draw.progress(0.37)
    assert ("37%" in screen.getvalue()) == terminal


def test_samplers_that_report_nothing_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "Console", lambda stderr: Console(file=io.StringIO(), force_terminal=True))
    with samples._watched(lambda model, count: None):  # type: ignore[arg-type, return-value]
        pass
