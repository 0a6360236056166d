"""Train the demo's runs, and put them side by side in a table, a page and a JSON file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console
from rich.table import Table
from uncollapse.cli.runs import checkpoint_of
from uncollapse.config import dump_config, merged
from uncollapse.errors import RunDirectoryError
from uncollapse.files import write_atomically
from uncollapse.pipeline import Pipeline
from uncollapse.plugins import registry

if TYPE_CHECKING:
    from uncollapse.training import Run

__all__ = ["comparison", "demo_pipelines", "run_demo", "summarize"]

_COLUMNS = {
    "rate": "rate\n(nats)",
    "distortion": "distortion\n(nats)",
    "nll": "NLL\n(nats)",
    "mutual_information": "mutual\ninformation\n(nats)",
    "active_units": "active\nunits",
    "knn_accuracy": "k-NN\naccuracy\n(%)",
    "logistic_accuracy": "linear\naccuracy\n(%)",
}


def demo_pipelines(seed: int = 0) -> dict[str, Pipeline]:
    """Return the demo's pipelines by name: the plain VAE first, then one for every installed remedy."""
    base = yaml.safe_load((files(__package__) / "vae.yaml").read_text(encoding="utf-8"))
    pipelines = {}
    for fragment in [{}, *(fragment for _, fragment in registry().demos())]:
        raw = {**merged(base, fragment), "seed": seed}
        pipelines[raw["name"]] = Pipeline.from_dict(raw)
    return pipelines


def run_demo(folder: Path, seeds: int = 1, *, quiet: bool = False, console: Console | None = None) -> Path:
    """Train and diagnose what is not yet, print the table, write ``summary.json`` and ``report.html``; return the page.

    The page shows the runs of seed 0, which are diagnosed for it.

    Args:
        folder: Holds one run directory for each pipeline and seed. Finished runs of the same pipeline are kept,
            interrupted ones resumed.
        seeds: Seeds 0 to ``seeds - 1``; the table shows means over them.
        quiet: No progress bars.
        console: Where the table goes.

    Raises:
        RunDirectoryError: ``folder`` holds runs of other pipelines.
    """
    from .. import build

    console = console or Console()
    runs: list[Run] = []
    for seed in range(seeds):
        for name, pipeline in demo_pipelines(seed).items():
            runs.append(_trained(folder / f"{name}-seed{seed}", pipeline, console, quiet))
    rows = [summarize(run) for run in runs]
    write_atomically(folder / "summary.json", json.dumps(rows, indent=2) + "\n")
    first_seed = [run for run in runs if run.config.seed == 0]
    verdicts = [f"{run.config.name}: {_diagnosed(run)}" for run in first_seed]
    page = build(first_seed, folder / "report.html")
    console.print(_table(rows, {checkpoint_of(run.results or {}) for run in runs}))
    console.print(f"Diagnosed, seed 0: {'; '.join(verdicts)}.", soft_wrap=True, markup=False, highlight=False)
    return page


def summarize(run: Run) -> dict[str, Any]:
    """Return a run's row: name, seed, latent dimension and the measured numbers (accuracy in 0 to 1, nats)."""
    results = run.results or {}
    numbers = {**results.get("estimates", {}), **results.get("probes", {})}
    measured = {key: numbers[key]["value"] if key in numbers else None for key in _COLUMNS}
    return {
        "name": run.config.name,
        "seed": run.config.seed,
        "latent_dim": math.prod(run.config.model.posterior.latent_shape),
        **measured,
    }


def comparison(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the demo's table: its head, and a line for each run name with means and standard errors over seeds.

    Args:
        rows: As :func:`summarize` makes them and ``summary.json`` holds them.
    """
    table = [["run", *_COLUMNS.values()]]
    for name in dict.fromkeys(row["name"] for row in rows):
        values = [row for row in rows if row["name"] == name]
        table.append([name, *(_cell([v.get(key) for v in values], key) for key in _COLUMNS)])
    return table


def _trained(directory: Path, pipeline: Pipeline, console: Console, quiet: bool) -> Run:
    from uncollapse.training import Run

    if not directory.exists():
        return pipeline.fit(directory, quiet=quiet)
    run = Run(directory)
    if dump_config(run.config) != dump_config(pipeline.config):
        raise RunDirectoryError(
            f"{directory} holds a run of another pipeline (of an earlier version, perhaps); delete it, or give the "
            "demo another folder with --runs"
        )
    if run.results is not None:
        console.print(f"{directory}: trained already; delete it to train again")
        return run
    return pipeline.fit(directory, resume=True, quiet=quiet)


def _diagnosed(run: Run) -> str:
    """Return what a diagnosis says of a run, in a word or two; it is made where there is none yet."""
    from uncollapse_diagnosis import diagnose_run

    file = run.path / "diagnosis.json"
    record = json.loads(file.read_text(encoding="utf-8")) if file.exists() else diagnose_run(run)[2]
    return str(record["verdict"])


def _table(rows: Sequence[Mapping[str, Any]], checkpoints: set[str]) -> Table:
    seeds = len({row["seed"] for row in rows})
    title = "seed 0" if seeds == 1 else f"mean ± standard error over {seeds} seeds"
    if len(checkpoints) == 1:
        title += f"; checkpoint: {checkpoints.pop()}"
    else:
        title += "; the best checkpoint of each"
    # Narrow enough for a terminal of 80 columns, with errors below the numbers.
    table = Table(title=f"Real digits, one PixelCNN: {title}", padding=0, show_lines=seeds > 1)
    head, *body = comparison(rows)
    table.add_column(head[0])
    for label in head[1:]:
        table.add_column(label, justify="right", no_wrap=True)
    for cells in body:
        table.add_row(*cells)
    return table


def _cell(values: Sequence[float | None], key: str) -> str:
    known = [v for v in values if v is not None]
    if not known:
        return "not measured"
    scale, digits = (100.0, 1) if key.endswith("accuracy") else (1.0, 2)
    mean = f"{scale * fmean(known):.{digits}f}"
    if len(known) > 1:
        mean += f"\n± {scale * stdev(known) / math.sqrt(len(known)):.{digits}f}"
    return mean
