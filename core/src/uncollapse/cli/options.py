"""Options that several commands share, and the choices that options offer."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "CheckpointName",
    "Device",
    "DeviceName",
    "Open",
    "Overrides",
    "Quiet",
    "RunPath",
    "Runs",
    "Split",
    "Which",
]


class Split(StrEnum):
    """Splits of a data source."""

    train = "train"
    validation = "validation"
    test = "test"


class Which(StrEnum):
    """Checkpoints of a run."""

    best = "best"
    last = "last"


class Device(StrEnum):
    """Where a model runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="Run directory.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change a field: training.epochs=10. May be repeated."),
]
CheckpointName = Annotated[Which, typer.Option("--checkpoint", help="Weights of the best validation, or the last.")]
DeviceName = Annotated[Device, typer.Option(help="Where the model runs.")]
Runs = Annotated[Path, typer.Option("--runs", metavar="DIR", help="Folder of run directories.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar and no summary.")]
Open = Annotated[bool, typer.Option("--open/--no-open", help="Show the page in the browser.")]
