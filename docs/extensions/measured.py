"""Tables of measured numbers, read from ``examples/results`` when the documentation is built."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import yaml
from repository_pages import ROOT, readmes
from sphinx.util.docutils import SphinxDirective
from uncollapse.plugins import registry
from uncollapse.protocols import Estimate
from uncollapse_report.demo import comparison
from uncollapse_report.numbers import table as report_table
from uncollapse_report.records import ReportRun

if TYPE_CHECKING:
    from docutils.nodes import Node
    from sphinx.application import Sphinx


def demo_numbers(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the demo's comparison as Markdown: a row for each run name, means with standard errors over seeds."""
    head, *body = comparison(rows)
    pages = {fragment.get("name"): plugin for plugin, fragment in registry().demos() if plugin in readmes("remedies")}
    shown = []
    for name, *cells in body:
        link = f"[{name}](/remedies/{pages[name]}.md)" if name in pages else name
        shown.append([link, *(" ".join(cell.split()) for cell in cells)])
    return markdown_table([" ".join(h.split()) for h in head], shown)


def demo_remedies() -> str:
    """Return what each installed remedy says and changes in the demo's pipeline, as Markdown."""
    rows = []
    for plugin, fragment in registry().demos():
        change = {key: value for key, value in fragment.items() if key not in ("name", "description")}
        written = yaml.safe_dump(change, default_flow_style=True, sort_keys=False, width=10_000).strip()
        link = f"[`{plugin}`](/remedies/{plugin}.md)" if plugin in readmes("remedies") else f"`{plugin}`"
        said = str(fragment.get("description", ""))
        rows.append([str(fragment.get("name")), link, f"{said} `{written}`".strip()])
    return markdown_table(["run", "plugin", "what it changes"], rows)


def run_numbers(runs: Mapping[str, Mapping[str, Any]], quantities: Sequence[str]) -> str:
    """Return measured runs side by side as Markdown.

    Args:
        runs: What a run's ``results.json`` holds, by the name to show.
        quantities: Names of estimates and scores, in the order of the rows.

    Raises:
        KeyError: A run did not measure one of them.
    """
    columns = []
    for name, results in runs.items():
        measured = {**results["estimates"], **results["probes"]}
        columns.append(ReportRun(name, numbers={q: Estimate(**measured[q]) for q in quantities}))
    rows = []
    for quantity in quantities:
        # One at a time: the report has an order of its own, and rows that are always there.
        only = [ReportRun(c.name, numbers={quantity: c.numbers[quantity]}) for c in columns]
        row = next(r for r in report_table(only) if all(cell.measured for cell in r.cells) and r.label != "Seed")
        label = f"{row.label} ({row.unit})" if row.unit and row.unit != "units" else row.label
        rows.append([label, *(f"{cell.value} {cell.error}".strip() for cell in row.cells)])
    return markdown_table(["", *runs], rows)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, the first column to the left and those of numbers to the right."""
    numbers = [bool(rows) and all(r[i][:1].isdigit() or r[i][:1] in "−-" for r in rows) for i in range(len(head))]
    lines = [head, ["---:" if n else "---" for n in numbers], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


class _Measured(SphinxDirective):
    def parsed(self, text: str) -> list[Node]:
        # What is installed may have changed since the last build, too.
        self.env.note_reread()
        return self.parse_text_to_nodes(text)

    def read(self, name: str) -> Any:
        path = ROOT / name
        self.env.note_dependency(str(path))
        return json.loads(path.read_text(encoding="utf-8"))


class DemoNumbers(_Measured):
    """``demo-numbers FILE``: the table of a demo's ``summary.json``."""

    required_arguments = 1

    def run(self) -> list[Node]:
        """Return the table."""
        return self.parsed(demo_numbers(self.read(self.arguments[0])))


class DemoRemedies(_Measured):
    """``demo-remedies``: what the installed remedies change in the demo's pipeline."""

    def run(self) -> list[Node]:
        """Return the table."""
        return self.parsed(demo_remedies())


def runs_in(lines: Iterable[str], read: Callable[[str], Any]) -> dict[str, Any]:
    """Return what a run measured, by its label, for lines ``label: file`` or ``label: file name epoch``.

    The second form is for a file with several runs by name, each measured after several epochs.
    """
    found = {}
    for line in lines:
        label, _, place = line.rpartition(":")
        file, *rest = place.split()
        results = read(file)
        if rest:
            name, epoch = rest
            results = next(r for r in results[name] if r["epoch"] == int(epoch))
        found[label.strip()] = results
    return found


class RunNumbers(_Measured):
    """``run-numbers``: a line for each run, as :func:`runs_in` reads them, and the option ``quantities``."""

    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {"quantities": str.split}

    def run(self) -> list[Node]:
        """Return the table."""
        runs = runs_in(self.content, self.read)
        return self.parsed(run_numbers(runs, self.options["quantities"]))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("demo-numbers", DemoNumbers)
    app.add_directive("demo-remedies", DemoRemedies)
    app.add_directive("run-numbers", RunNumbers)
    return {"parallel_read_safe": True}
