"""The command ``uncollapse correlations``: its options. What it does is imported when it runs."""

from __future__ import annotations

from typing import Annotated

import typer
from uncollapse.cli.options import CheckpointName, Device, DeviceName, RunPath, Which

__all__ = ["correlations"]


def correlations(
    run: RunPath,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Pairs that are printed.")] = 10,
    checkpoint: CheckpointName = Which.best,
    device: DeviceName = Device.auto,
) -> None:
    """Print which dimensions of a trained run's codes are correlated, the strongest pairs first."""
    from uncollapse.cli.runs import load_run
    from uncollapse.evaluation import encode
    from uncollapse.training import Run

    from .correlations import correlation, strongest

    opened = Run(run)
    built = load_run(opened, checkpoint.value, device.value)
    codes, _ = encode(built.model, getattr(built.data, opened.config.evaluation.split))
    for i, j, value in strongest(correlation(codes.double()))[:count]:
        typer.echo(f"z{i} z{j} {value:+.3f}")
