"""Commands that make runs and work on them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..config.load import dump_config, load_config
from ..config.pipeline import EvaluationConfig
from ..devices import choose_device
from ..errors import ConfigError
from ..evaluation import evaluate as measure
from ..files import write_atomically
from ..findings import Evidence, conclude
from ..pipeline import Built, Pipeline
from ..plugins import registry
from ..training.run import Run

__all__ = ["checkpoint_of", "evaluate", "load_run", "print_results", "train"]

_EARLY = 0.2
"""Share of the steps below which the best checkpoint is worth a warning."""

_DEFAULT_ESTIMATORS = ({"type": "elbo"}, {"type": "mutual_information"}, {"type": "active_units"})


def train(pipeline: Path, overrides: Sequence[str], *, resume: bool, runs: Path, name: str | None, quiet: bool) -> None:
    """Train a pipeline file; see :meth:`uncollapse.pipeline.Pipeline.fit`."""
    if name is not None:
        overrides = [*overrides, f"name={json.dumps(name)}"]
    run = Pipeline.from_yaml(pipeline, overrides).fit(runs=runs, resume=resume, quiet=quiet)
    if quiet or os.environ.get("RANK", "0") != "0":
        return
    console = _console()
    if run.results is not None:
        print_results(console, run.results)
    console.print(f"Everything is in {run.path}. A page on it: uncollapse report {run.path}", soft_wrap=True)


def evaluate(
    path: Path, split: str | None, overrides: Sequence[str], which: Any, device: str, output: Path | None
) -> None:
    """Measure a trained run and write its ``results.json``, or ``output``.

    Raises:
        ConfigError: An override changes more than the evaluation.
    """
    run = Run(path)
    if split is not None:
        overrides = [*overrides, f"evaluation.split={split}"]
    known = run.config
    config = load_config(path / "pipeline.yaml", overrides)
    if dump_config(config.model_copy(update={"evaluation": known.evaluation})) != dump_config(known):
        raise ConfigError(
            f"--set {_culprit(path, known, overrides)}: a trained run can only change fields of evaluation; "
            "train another run for the rest"
        )
    asked = config.evaluation
    if not asked.estimators and not asked.probes:
        asked = EvaluationConfig.model_validate({**asked.model_dump(mode="json"), "estimators": _DEFAULT_ESTIMATORS})
    built = load_run(run, which, device)
    results = {**run.measured_at(which), **measure(built, asked, config.seed)}
    if output is None:
        run.write_results(results)
    else:
        write_atomically(output, json.dumps(results, indent=2) + "\n")
    console = _console()
    print_results(console, results)
    console.print(f"Written to {output or path / 'results.json'}", soft_wrap=True)


def load_run(run: Run, which: Any, device: str) -> Built:
    """Return a run's trained objects on a device.

    Raises:
        ConfigError: The device is not available here.
    """
    device = choose_device(device, "--device")
    # A folder that is no run is told apart from a run without checkpoints.
    _ = run.config
    built: Built = run.load(which)
    built.model.to(device)
    return built


def print_results(console: Console, results: Mapping[str, Any]) -> None:
    """Print the measured numbers and the findings."""
    title = f"{results['split']} split, {results['examples']:,} examples; checkpoint: {checkpoint_of(results)}"
    table = Table(title=title, title_justify="left")
    for heading, justify in (("measured", "left"), ("value", "right"), ("± standard error", "right"), ("note", "left")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for name, record in [*results["estimates"].items(), *results["probes"].items()]:
        factor, unit = (100, "%") if record["unit"] == "accuracy" else (1, record["unit"])
        value = "–" if record["value"] is None else f"{factor * record['value']:.4g} {unit}"
        error = "" if record["standard_error"] is None else f"{factor * record['standard_error']:.2g}"
        table.add_row(name, value, error, escape(record["note"]))
    console.print(table)
    for name, reason in results.get("skipped", {}).items():
        console.print(f"{name} was left out: {reason}", soft_wrap=True, markup=False)
    for finding in conclude(Evidence.from_results(results), registry().conditions()[0]):
        console.print(f"{finding.condition}: {finding.evidence}", soft_wrap=True, markup=False)
    if results.get("checkpoint") == "best" and results["step"] < _EARLY * results["steps"]:
        console.print(
            f"The best checkpoint is early: step {results['step']:,} of {results['steps']:,}, where weights of "
            "penalties may not have settled. Compare with --checkpoint last, or train with training.monitor: last.",
            soft_wrap=True,
        )


def checkpoint_of(results: Mapping[str, Any]) -> str:
    """Return which checkpoint measured numbers are of, in words: ``best, step 12 of 120``."""
    if "step" not in results:
        return "step not recorded"
    return f"{results['checkpoint']}, step {results['step']:,} of {results['steps']:,}"


def _culprit(path: Path, known: Any, overrides: Sequence[str]) -> str:
    """Return the first override that changes more than the evaluation."""
    for count in range(1, len(overrides) + 1):
        changed = load_config(path / "pipeline.yaml", overrides[:count])
        if dump_config(changed.model_copy(update={"evaluation": known.evaluation})) != dump_config(known):
            return overrides[count - 1]
    return overrides[-1]


def _console() -> Console:
    return Console(highlight=False)
