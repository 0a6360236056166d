"""The command ``uncollapse diagnose``: its options. What it does is imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from uncollapse.cli.options import CheckpointName, Device, DeviceName, RunPath, Split, Which

__all__ = ["diagnose"]


def diagnose(
    run: RunPath,
    split: Annotated[Split | None, typer.Option(help="Split; by default the pipeline's.", show_default=False)] = None,
    examples: Annotated[int, typer.Option(min=1, help="Examples whose posteriors are read, at most.")] = 10_000,
    decoder_examples: Annotated[int, typer.Option(min=2, help="Examples that the decoder is tried on.")] = 256,
    refined_examples: Annotated[
        int, typer.Option(min=0, help="Examples whose posterior is refined, to see whether inference lags; 0 for none.")
    ] = 32,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 0,
    checkpoint: CheckpointName = Which.best,
    device: DeviceName = Device.auto,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="By default RUN/diagnosis.json.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")] = False,
    apply: Annotated[
        bool, typer.Option("--apply", help="Write the run's pipeline with the best installed remedy as a new file.")
    ] = False,
    remedy: Annotated[str | None, typer.Option(metavar="NAME", help="With --apply: this remedy.")] = None,
    pipeline: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --apply: the file; by default NAME-REMEDY.yaml here.")
    ] = None,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-on",
            metavar="CONDITION",
            help="Exit with its own code (collapsed 11, partly-collapsed 10, ...) if this was found, or any. May be "
            "repeated.",
        ),
    ] = None,
) -> None:
    """Say what condition a trained run is in (healthy, collapsed, or another), why, and what treats it."""
    for option, value in (("--remedy", remedy), ("--pipeline", pipeline)):
        if value is not None and not apply:
            raise typer.BadParameter(f"{option} needs --apply")
    from .cli import diagnose as examine
    from .settings import Settings

    settings = Settings(
        examples=examples, decoder_examples=decoder_examples, refined_examples=refined_examples, seed=seed
    )
    where = (None if split is None else split.value, checkpoint.value, device.value)
    code = examine(run, *where, settings, output, as_json, apply, remedy, pipeline, fail_on or [])
    raise typer.Exit(code)
