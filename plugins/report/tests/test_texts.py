"""Texts on the page: constructed records, alone and beside a run of images."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

pytest.importorskip("plotly", reason="needs the extra 'report'")
pytest.importorskip("jinja2", reason="needs the extra 'report'")

from uncollapse_report.page import render
from uncollapse_report.records import ReportRun, Texts, Views


def run(name: str = "words", *, greedy: bool = True) -> ReportRun:
    texts = Texts(
        originals=("the soup was cold .", "<b>bold</b> & more"),
        greedy=("soup .", "bold .") if greedy else None,
        samples=("a soup .", "a bold ."),
        prior=("the view .", "the cake ."),
        between=("first", "second", "third"),
    )
    return ReportRun(name=name, views=Views(texts=texts))


def body(*runs: ReportRun) -> str:
    """Return the page without scripts, styles and the sections for which these runs have nothing."""
    return re.sub(r'<(script|style).*?</\1>|<section id="(kl|latents)".*?</section>', "", render(runs), flags=re.DOTALL)


def test_every_text_stands_where_it_belongs() -> None:
    page = body(run())
    pairs = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page)
    assert pairs == [
        ("input", "the soup was cold ."), ("decoded", "soup ."), ("sample", "a soup ."),
        ("input", "&lt;b&gt;bold&lt;/b&gt; &amp; more"), ("decoded", "bold ."), ("sample", "a bold ."),
    ]  # fmt: skip
    items = re.findall(r"<li>(first|second|third|the view \.|the cake \.)</li>", page)
    assert items == ["first", "second", "third", "the view .", "the cake ."]
    assert 'href="#texts"' in page
    assert 'href="#pictures"' not in page
    assert 'id="pictures"' not in page
    assert "The run has none." not in page


def test_a_decoder_that_is_only_sampled_from_is_said_to_be_so() -> None:
    page = body(run(greedy=False))
    assert "<dt>decoded</dt>" not in page
    assert page.count("The decoder can only be sampled from.") == 1
    assert page.count("Samples of p(x|z).") == 1


def test_texts_beside_images(image_run: Callable[..., ReportRun]) -> None:
    page = body(image_run("digits", collapsed=False), run())
    for place in ("reconstructions", "samples", "traversals", "texts", "texts-between", "texts-prior"):
        assert page.count(f'id="{place}"') == 1
    assert "The run has none." not in page


def test_the_reason_for_another_run_without_texts_is_said_once(vector_run: ReportRun) -> None:
    page = body(run(), vector_run)
    assert page.count("arrays of 2 values, not images") == 1
