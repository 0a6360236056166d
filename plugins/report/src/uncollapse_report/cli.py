"""What the commands ``uncollapse report`` and ``uncollapse demo`` do."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from uncollapse.training import Run

from . import build
from .demo import run_demo

__all__ = ["demo", "report"]


def report(paths: Sequence[Path], output: Path | None, *, show: bool) -> None:
    """Write the page on one run or several."""
    runs = [Run(path) for path in paths]
    for run in runs:
        # Before minutes are spent on the others.
        _ = run.config
    page = build(runs, output or (paths[0] / "report.html" if len(paths) == 1 else Path("report.html")))
    _console().print(f"Written to {page}", soft_wrap=True)
    if show:
        _show(page)


def demo(seeds: int, folder: Path, *, quiet: bool, show: bool) -> None:
    """Run the demo; see :func:`uncollapse_report.demo.run_demo`."""
    page = run_demo(folder, seeds, quiet=quiet, console=_console())
    _console().print(f"Written to {page}", soft_wrap=True)
    if show:
        _show(page)


def _show(page: Path) -> None:
    webbrowser.open(page.absolute().as_uri())


def _console() -> Console:
    return Console(highlight=False)
