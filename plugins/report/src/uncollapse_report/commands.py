"""The commands ``uncollapse report`` and ``uncollapse demo``: their options. What they do is imported when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from uncollapse.cli.options import Open, Runs

__all__ = ["demo", "report"]


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run directories.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="The page; by default RUN/report.html, or report.html for several."
        ),
    ] = None,
    open_: Open = False,
) -> None:
    """Write one self-contained page on one run, or on several side by side."""
    from .cli import report as write

    write(runs, output, show=open_)


def demo(
    seeds: Annotated[int, typer.Option(min=1, help="Seeds, from 0.")] = 1,
    runs: Runs = Path("runs/demo"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")] = False,
    open_: Open = False,
) -> None:
    """Train the same strong decoder on real digits without a remedy and with every installed one, and compare."""
    from .cli import demo as compare

    compare(seeds, runs, quiet=quiet, show=open_)
