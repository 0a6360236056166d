"""The documentation's tables are those of the measured files, what pages say of them holds, and links lead somewhere."""

from __future__ import annotations

import json
import re
import statistics
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "extensions"))
pytest.importorskip("sphinx", reason="the documentation is built with the extra docs")

import api_pages  # noqa: E402
import component_pages  # noqa: E402
import measured  # noqa: E402
import repository_pages  # noqa: E402

# --------------------------------------------------------------------------------------------------------------- tables


def results(name: str) -> Any:
    return json.loads((ROOT / "examples" / "results" / name).read_text())


def cells(markdown: str) -> list[list[str]]:
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in markdown.splitlines()]
    return [rows[0], *rows[2:]]


def test_the_demo_s_table_is_that_of_its_file() -> None:
    rows = results("demo-3-seeds.json")
    head, *body = cells(measured.demo_numbers(rows))
    column = head.index("mutual information (nats)")
    assert len(body) == len({row["name"] for row in rows})
    for line in body:
        name = re.sub(r"\[(.*?)\]\(.*", r"\1", line[0])
        values = [row["mutual_information"] for row in rows if row["name"] == name]
        error = statistics.stdev(values) / len(values) ** 0.5
        assert line[column] == f"{statistics.fmean(values):.2f} ± {error:.2f}"


def test_tables_of_runs_are_those_of_their_files() -> None:
    lines = ["one: mnist-small-mae.json", "two: collapse.json gated-maps 3"]
    runs = measured.runs_in(lines, results)
    head, *body = cells(measured.run_numbers(runs, ["rate", "knn_accuracy"]))
    assert head == ["", "one", "two"]
    rate, accuracy = body
    assert float(rate[1].split()[0]) == pytest.approx(
        results("mnist-small-mae.json")["estimates"]["rate"]["value"], 1e-4
    )
    epoch = next(r for r in results("collapse.json")["gated-maps"] if r["epoch"] == 3)
    assert float(accuracy[2].split()[0]) == pytest.approx(100 * epoch["probes"]["knn_accuracy"]["value"], 1e-2)
    with pytest.raises(KeyError):
        measured.run_numbers(runs, ["kmeans_accuracy_k30"])


def value(run: Any, name: str) -> float:
    return {**run["estimates"], **run["probes"]}[name]["value"]


def test_what_choosing_a_remedy_says_of_its_tables_holds() -> None:
    plain = [row for row in results("demo-3-seeds.json") if row["name"] == "vae"]
    assert statistics.fmean(row["mutual_information"] for row in plain) < 0.5
    assert statistics.fmean(row["active_units"] for row in plain) > plain[0]["latent_dim"] / 2
    assert statistics.fmean(row["knn_accuracy"] for row in plain) > 0.5
    epochs = {name: next(r for r in runs if r["epoch"] == 3) for name, runs in results("collapse.json").items()}
    for decoder in ("masked", "gated"):
        maps, bias = epochs[f"{decoder}-maps"], epochs[f"{decoder}-bias"]
        assert value(maps, "mutual_information") > 2 * value(bias, "mutual_information")
        assert value(maps, "elbo") > value(bias, "elbo")
    mae, vae = results("mnist-small-mae.json"), results("mnist-small-vae.json")
    gain = {n: value(mae, n) - value(vae, n) for n in ("knn_accuracy_100", "knn_accuracy", "nll")}
    assert gain["knn_accuracy_100"] > 2 * gain["knn_accuracy"] > 0
    assert gain["nll"] > 0
    assert value(results("yelp-small.json"), "mutual_information") < 0.5


# ---------------------------------------------------------------------------------------------------------------- links

PAGES = sorted(p for pattern in ("*.md", "docs/*.md", "plugins/*/README.md", "examples/*/README.md") for p in ROOT.glob(pattern))  # fmt: skip
_BUILT = re.compile(r"\]\(((?:components|api|remedies|experiments)/[^)#]+)[^)]*\)")


@pytest.fixture(scope="module")
def built() -> set[str]:
    """Return the names of the pages that a build writes."""
    shelves = {f"{shelf}/{n}" for shelf in repository_pages.SHELVES for n in repository_pages.shelf_pages(shelf)}
    return {
        *shelves,
        *(f"components/{n}" for n in component_pages.pages()),
        *(f"api/{n}" for n in api_pages.pages()),
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path, built: set[str]) -> None:
    text = page.read_text()
    assert set(_BUILT.findall(text)) - built == set()
    repository_pages.relink(_BUILT.sub("", text), page, page)


def test_links_are_turned_to_pages() -> None:
    origin = ROOT / "plugins" / "mae" / "README.md"
    page = DOCS / "remedies" / "mae.md"
    text = "[a](../../README.md) [b](../../examples/mae/) [c](../../examples/own_loop.py) [d](https://arxiv.org)"
    assert repository_pages.relink(text, origin, page) == (
        "[a](../index.md) [b](../experiments/mae.md) [c](../../examples/own_loop.py) [d](https://arxiv.org)"
    )
    with pytest.raises(FileNotFoundError, match=r"README\.md: the link 'gone\.md' leads nowhere"):
        repository_pages.relink("[x](gone.md)", origin, page)


def test_figures_are_small_and_drawings_have_a_title() -> None:
    figures = list((DOCS / "figures").iterdir())
    assert {f.name: f.stat().st_size for f in figures if f.stat().st_size >= 300_000} == {}
    drawing = ElementTree.parse(DOCS / "figures" / "data-flow.svg").getroot()
    assert drawing.findtext("{http://www.w3.org/2000/svg}title")
    assert "prefers-color-scheme: dark" in (DOCS / "figures" / "data-flow.svg").read_text()
