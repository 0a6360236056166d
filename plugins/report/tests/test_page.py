from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import uncollapse_report as report
from uncollapse.errors import RunDirectoryError
from uncollapse.findings import Finding
from uncollapse.protocols import Estimate
from uncollapse_report.page import render
from uncollapse_report.records import ReportRun

Make = Callable[..., ReportRun]
EVIL = "</script><script>alert(1)</script><b onclick='x'>&"


class Outline(HTMLParser):
    """Elements of the page with their attributes, and the text outside scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_page_is_deterministic_and_asks_for_nothing(image_run: Make) -> None:
    runs = [image_run("a", collapsed=True), image_run("b", collapsed=False)]
    page = render(runs)
    assert page == render(runs)
    outline = Outline(page)
    policy = next(meta["content"] for meta in outline.all("meta") if "http-equiv" in meta)
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data: blob:;")
    addresses = [a[key] for _, a in outline.elements for key in ("src", "href") if key in a]
    assert addresses
    assert all(address and address.startswith(("data:", "#")) for address in addresses)
    assert page.count("plotly.js v") == 1, "the library is embedded once"


def test_every_image_and_chart_has_words_for_those_who_do_not_see_it(image_run: Make) -> None:
    outline = Outline(render([image_run("a", collapsed=False)]))
    assert len(outline.all("img")) == 3 + 1 + 3
    assert all(image["alt"] for image in outline.all("img"))
    charts = [a for a in outline.all("div") if a.get("role") == "img"]
    assert len(charts) == 3 + 1 + 1
    assert all(chart["aria-label"] for chart in charts)


def test_the_anchors_of_the_navigation_exist(image_run: Make, vector_run: ReportRun) -> None:
    for runs in ([image_run("a", collapsed=False)], [vector_run]):
        outline = Outline(render(runs))
        ids = {a["id"] for _, a in outline.elements if "id" in a}
        links = {str(a["href"])[1:] for a in outline.all("a")}
        assert links <= ids
        sections = {a["id"] for a in outline.all("section")}
        assert sections <= links


def test_names_and_texts_are_escaped_everywhere(image_run: Make) -> None:
    run = image_run("a", collapsed=False)
    run = replace(
        run,
        name=EVIL,
        description=EVIL,
        pipeline=EVIL,
        evaluated_on=EVIL,
        environment={"git": EVIL},
        skipped={EVIL: EVIL},
        numbers={**run.numbers, EVIL: Estimate(1.0, EVIL, note=EVIL)},
        findings=(Finding("not collapsed", EVIL), Finding(EVIL, EVIL)),
    )
    page = render([run])
    assert "<script>alert" not in page
    assert "<b onclick" not in page
    outline = Outline(page)
    assert len(outline.all("script")) == 3
    assert not outline.all("b")


def test_figures_survive_the_way_into_the_page(image_run: Make) -> None:
    run = replace(image_run("a", collapsed=False), name=EVIL)
    page = render([run])
    raw = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.DOTALL)
    assert raw is not None
    figures: list[dict[str, Any]] = json.loads(raw[1])
    assert [figure["key"] for figure in figures] == ["training-0", "training-1", "training-2", "kl", "latents-0"]
    assert figures[0]["data"][0]["name"].startswith("&lt;/script&gt;")


def test_what_a_run_is_for_stands_on_its_card(image_run: Make) -> None:
    run = replace(image_run("a", collapsed=True), description="The rate is left out.")
    assert "a The rate is left out. collapsed" in Outline(render([run])).text


def test_the_verdict_stands_without_repeating_its_label(image_run: Make) -> None:
    findings = (Finding("inference lagging", "refining gains much"), Finding("collapsed", "z carries nothing"))
    text = Outline(render([replace(image_run("a", collapsed=True), findings=findings)])).text
    assert "inference lagging Refining gains much collapsed: z carries nothing" in text


@pytest.mark.parametrize(
    ("label", "tone"),
    [
        ("healthy", "good"),
        ("not collapsed", "unknown"),
        ("not enough data", "unknown"),
        ("partly collapsed", "mixed"),
        ("collapsed", "bad"),
        ("what a plugin found", "bad"),
    ],
)
def test_every_condition_has_its_tone(image_run: Make, label: str, tone: str) -> None:
    run = replace(image_run("a", collapsed=True), findings=(Finding(label, "why not"),))
    page = render([run])
    assert f'class="panel verdict {tone}"' in page
    assert "Why not" in page


def test_vectors_and_unmeasured_runs_say_what_is_missing(vector_run: ReportRun) -> None:
    text = Outline(render([vector_run])).text
    for words in (
        "not evaluated",
        "The run has no metrics yet.",
        "The data are arrays of 2 values, not images",
        "The posterior is not a diagonal Gaussian.",
        "The run recorded no environment.",
        "not measured",
    ):
        assert words in text
    assert "Samples from the prior" not in text


def test_reasons_name_their_run_where_runs_differ(image_run: Make, vector_run: ReportRun) -> None:
    text = Outline(render([image_run("digits", collapsed=False), vector_run])).text
    assert "toy: The data are arrays of 2 values" in text
    assert "toy: The posterior is not a diagonal Gaussian." in text


def test_what_gave_no_number_is_explained(image_run: Make) -> None:
    text = Outline(render([image_run("a", collapsed=True)])).text
    assert "mutual_information gave no number: the posterior has no density" in text


def test_samples_are_called_samples(image_run: Make) -> None:
    text = Outline(render([image_run("a", collapsed=False, means=False)])).text
    assert "Samples of p(x|z), which has no mean in closed form." in text
    assert "Means of p(x|z)." not in text


def test_a_report_on_nothing_and_a_folder_for_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="at least one run"):
        report.build([], tmp_path / "report.html")
    with pytest.raises(RunDirectoryError, match=r"is a folder.*report\.html"):
        report.build([object()], tmp_path)  # type: ignore[list-item]
