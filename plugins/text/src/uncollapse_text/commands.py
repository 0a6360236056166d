"""The command ``uncollapse texts``: its options. What it does is imported when it runs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from uncollapse.cli.options import CheckpointName, Device, DeviceName, RunPath, Which

__all__ = ["texts"]


class Decoding(StrEnum):
    """How texts are read off p(x|z)."""

    greedy = "greedy"
    beam = "beam"
    sample = "sample"


def texts(
    run: RunPath,
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, help="Texts for latents from the prior; 64 by default.")
    ] = None,
    reconstruct: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="N texts of the data with their reconstructions instead.")
    ] = None,
    between: Annotated[
        tuple[str, str] | None, typer.Option(metavar="TEXT TEXT", help="The way between two sentences instead.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=2, help="With --between: points on the way, both ends among them; 5 by default.")
    ] = None,
    decoding: Annotated[
        Decoding | None, typer.Option(help="How texts are read off p(x|z); greedy by default.", show_default=False)
    ] = None,
    beam_size: Annotated[
        int | None, typer.Option(min=1, help="With --decoding beam: texts that are kept at a time; 5 by default.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0.01, help="With --decoding sample: below 1 likely tokens gain; 1 by default.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="A .txt; by default they are printed.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 0,
    checkpoint: CheckpointName = Which.best,
    device: DeviceName = Device.auto,
) -> None:
    """Read texts off a trained run: for the prior's latents, reconstructions, or the way between two sentences."""
    for option, value, needed, given in (
        ("--count", count, "no --reconstruct and no --between", reconstruct is None and between is None),
        ("--reconstruct", reconstruct, "no --between", between is None),
        ("--steps", steps, "--between", between is not None),
        ("--beam-size", beam_size, "--decoding beam", decoding is Decoding.beam),
        ("--temperature", temperature, "--decoding sample", decoding is Decoding.sample),
    ):
        if value is not None and not given:
            raise typer.BadParameter(f"{option} needs {needed}")
    options = {"method": decoding and decoding.value, "beam_size": beam_size, "temperature": temperature}
    reading = {name: value for name, value in options.items() if value is not None}
    where = (output, seed, checkpoint.value, device.value)
    from . import cli

    if reconstruct is not None:
        cli.reconstructions(run, reconstruct, *where, reading)
    elif between is not None:
        cli.between(run, between, steps or 5, *where, reading)
    else:
        cli.from_prior(run, count or 64, *where, reading)
