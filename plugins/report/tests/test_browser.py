"""The page as a reader meets it: in headless Chromium, at the width of a desktop and of a phone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from uncollapse_report.page import render
from uncollapse_report.records import ReportRun

SIZES = {"desktop": (1280, 800), "phone": (390, 844)}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture
def two_runs(pages: Path, image_run: Callable[..., ReportRun]) -> Path:
    page = pages / "two.html"
    if not page.exists():
        runs = [image_run("digits-plain", collapsed=True), image_run("digits-cured", collapsed=False, means=False)]
        page.write_text(render(runs), encoding="utf-8")
    return page


def look(browser: Any, page: Path, size: str, scheme: str = "light") -> None:
    browser.open(page, *SIZES[size], scheme=scheme)
    assert browser.evaluate("innerWidth") == SIZES[size][0]


def check_sound(browser: Any) -> None:
    """No complaint, no request, nothing wider than the window, every image decoded, every chart drawn."""
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith(("data:", "blob:"))] == [
        browser.evaluate("location.href")
    ]
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
    assert browser.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert browser.evaluate("[...document.images].every((image) => image.clientWidth > image.naturalWidth)")
    charts = "[...document.querySelectorAll('.chart')]"
    assert browser.evaluate(f"{charts}.length") > 0
    assert browser.evaluate(
        f"{charts}.every((chart) => chart.querySelector('svg.main-svg .trace, svg.main-svg .bars'))"
    )
    assert browser.evaluate(f"{charts}.every((chart) => chart.querySelector('svg').clientWidth <= chart.clientWidth)")


@pytest.mark.parametrize("size", SIZES)
def test_two_runs_side_by_side(browser: Any, two_runs: Path, size: str) -> None:
    look(browser, two_runs, size)
    check_sound(browser)
    assert browser.evaluate("document.querySelector('h1').innerText") == "digits-plain, digits-cured"
    assert browser.evaluate("[...document.querySelectorAll('h2')].map((h) => h.innerText)") == [
        "Verdict",
        "Numbers",
        "Training",
        "KL per dimension",
        "Reconstructions",
        "Samples from the prior",
        "Latent traversals",
        "Latent map",
        "Set-up",
    ]
    assert browser.evaluate("[...document.querySelectorAll('.badge')].map((b) => b.innerText)") == [
        "collapsed",
        "not collapsed",
    ]
    row = "[...document.querySelectorAll('tbody tr')].find((r) => r.innerText.startsWith('Distortion'))"
    assert browser.evaluate(f"[...{row}.querySelectorAll('td')].map((cell) => cell.innerText)") == [
        "nats",
        "26.31",
        "± 0.17",
        "14.87",
        "± 0.17",
    ]
    assert browser.evaluate("document.images.length") == (3 + 1 + 3) + (2 + 1 + 3)
    assert browser.evaluate("document.querySelectorAll('.chart').length") == 3 + 1 + 2
    assert browser.evaluate("document.querySelectorAll('#chart-kl .bars .point').length") == 2 * 16
    assert browser.evaluate("document.querySelectorAll('#chart-training-0 .scatterlayer .trace').length") == 4


def test_runs_stand_side_by_side_where_there_is_room(browser: Any, two_runs: Path) -> None:
    tops = "[...document.querySelectorAll('#verdict .panel')].map((panel) => panel.getBoundingClientRect().top)"
    look(browser, two_runs, "desktop")
    first, second = browser.evaluate(tops)
    assert first == second
    look(browser, two_runs, "phone")
    first, second = browser.evaluate(tops)
    assert first < second


def test_the_table_scrolls_in_its_own_frame_on_a_phone(browser: Any, two_runs: Path) -> None:
    look(browser, two_runs, "phone")
    frame = "document.querySelector('.scroll')"
    assert browser.evaluate(f"{frame}.scrollWidth > {frame}.clientWidth")
    browser.evaluate(f"{frame}.scrollLeft = 1000")
    assert browser.evaluate(f"{frame}.scrollLeft") > 0
    assert browser.evaluate(
        f"{frame}.querySelector('tbody th').getBoundingClientRect().left >= {frame}.getBoundingClientRect().left"
    ), "the names of the rows stay in sight"


def test_charts_follow_the_colour_scheme(browser: Any, two_runs: Path) -> None:
    ink = "getComputedStyle(document.querySelector('#chart-kl .xtick text')).fill"
    look(browser, two_runs, "desktop")
    light = browser.evaluate(ink)
    browser.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    browser.wait(f"{ink} !== '{light}'")
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(16, 19, 24)"
    assert browser.evaluate(ink) == "rgb(165, 174, 188)"
    check_sound(browser)


@pytest.mark.parametrize("size", SIZES)
def test_vectors_without_results(browser: Any, pages: Path, vector_run: ReportRun, size: str) -> None:
    page = pages / "vectors.html"
    page.write_text(render([vector_run]), encoding="utf-8")
    look(browser, page, size, scheme="dark")
    check_sound(browser)
    assert browser.evaluate("document.images.length") == 0
    assert browser.evaluate("document.querySelectorAll('.chart').length") == 1
    assert "not images" in browser.evaluate("document.querySelector('#pictures').innerText")


def test_the_pipeline_unfolds(browser: Any, two_runs: Path) -> None:
    look(browser, two_runs, "phone")
    closed = browser.evaluate("document.querySelector('details pre').checkVisibility()")
    browser.evaluate("document.querySelector('summary').click()")
    assert not closed
    assert browser.evaluate("document.querySelector('details pre').checkVisibility()")
    assert "type: digits" in browser.evaluate("document.querySelector('details').innerText")
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
