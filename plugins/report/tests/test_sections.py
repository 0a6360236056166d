"""Sections that plugins contribute: alone, beside a run of images, failing, and refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from uncollapse.plugins import ReportSection
from uncollapse_report import sections as module
from uncollapse_report.page import render
from uncollapse_report.records import Panel, ReportRun, Views
from uncollapse_report.views import collect_panels


def section(show: Callable[..., str | None], name: str = "words", **options: Any) -> ReportSection:
    return ReportSection(name, "Words <said>", "What is said & why", show, **options)


def body(*runs: ReportRun, **options: Any) -> str:
    return re.sub(r"<script.*?</script>", "", render(runs, **options), flags=re.DOTALL)


SAID = section(lambda *_: None, style="#words b { color: red; }")


def test_a_panel_stands_in_its_section_with_its_style_and_a_link() -> None:
    run = ReportRun(name="r<1>", views=Views(panels=(Panel(SAID, "<b>as written</b>"),)))
    page = body(run)
    assert '<a href="#words">Words &lt;said&gt;</a>' in page
    assert '<section id="words">' in page
    assert "<h2>Words &lt;said&gt;</h2>" in page
    assert "<p>What is said &amp; why</p>" in page
    assert "<b>as written</b>" in page
    assert page.count("#words b { color: red; }") == 1
    # What shows itself in a section of its own lacks no pictures.
    assert 'id="pictures"' not in page


def test_runs_stand_side_by_side_and_beside_images(image_run: Callable[..., ReportRun]) -> None:
    one, two = (ReportRun(name=n, views=Views(panels=(Panel(SAID, f"<i>{n}</i>"),))) for n in ("one", "two"))
    page = body(image_run("digits", collapsed=False), one, two)
    assert page.count('<section id="words">') == page.count("<i>one</i>") == page.count("<i>two</i>") == 1
    assert 'id="reconstructions"' in page
    assert page.index("<i>one</i>") < page.index("<i>two</i>")


def test_a_section_sees_the_model_in_evaluation_mode_and_is_seeded() -> None:
    seen: list[Any] = []

    def show(trained: Any, split: str, seed: int) -> str:
        seen.append((trained.model.training, torch.is_grad_enabled(), split, seed, torch.rand(1).item()))
        return f"<p>{len(seen)}</p>"

    example: Any = SimpleNamespace(model=nn.Linear(2, 2))
    example.model.train()
    before = torch.get_rng_state()
    panels = collect_panels(example, "test", 7, [section(show), section(show, "more"), section(lambda *_: None, "no")])
    assert [panel.html for panel in panels] == ["<p>1</p>", "<p>2</p>"]
    assert seen[0] == seen[1] == (False, False, "test", 7, seen[0][-1])
    assert example.model.training
    assert torch.equal(before, torch.get_rng_state())


def test_a_section_that_fails_says_why_and_the_others_go_on() -> None:
    def fails(*_: Any) -> str:
        raise KeyError("<nothing>")

    example: Any = SimpleNamespace(model=nn.Linear(2, 2))
    panels = collect_panels(example, "test", 0, [section(fails), section(lambda *_: "<p>fine</p>", "fine")])
    page = body(ReportRun(name="r", views=Views(panels=panels)))
    assert "It could not be made: KeyError: &#39;&lt;nothing&gt;&#39;" in page
    assert "<p>fine</p>" in page


class _Registry:
    def __init__(self, *found: tuple[str, ReportSection]) -> None:
        self.found = found

    def contributions(self, hook: str, record: type) -> tuple[list[Any], dict[str, str]]:
        assert (hook, record) == ("uncollapse_sections", ReportSection)
        return [(type("Info", (), {"name": name}), s) for name, s in self.found], {"old": "it is broken"}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("verdict", "its section 'verdict' is taken by the page itself"),
        ("words", "its section 'words' is taken by first"),
        ("a b", "named with letters, digits and dashes, found 'a b'"),
    ],
)
def test_a_section_whose_name_is_taken_is_left_out_and_the_page_says_so(
    monkeypatch: pytest.MonkeyPatch, name: str, why: str
) -> None:
    second = replace(SAID, name=name)
    monkeypatch.setattr(module, "registry", lambda: _Registry(("first", SAID), ("second", second)))
    sections, left_out = module.contributed()
    assert sections == [SAID]
    assert why in left_out["second"]
    assert left_out["old"] == "it is broken"
    page = body(ReportRun(name="r"), left_out=left_out)
    assert "Sections of the plugin second are left out" in page
