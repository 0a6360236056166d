"""From a run directory to the records of a report."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from uncollapse.cli.runs import checkpoint_of
from uncollapse.config import PipelineConfig, dump_config
from uncollapse.errors import CheckpointError, RunDirectoryError
from uncollapse.findings import Evidence, Finding, conclude
from uncollapse.plugins import ReportSection, registry
from uncollapse.protocols import Estimate

from .records import Curve, ReportRun, Views
from .views import BuiltLike, collect_panels, collect_views

__all__ = ["RunLike", "collect", "collect_runs", "curves", "estimates"]

_MOST_POINTS = 1000
_ALWAYS = ("loss", "rate", "distortion")


class RunLike(Protocol):
    """What a report needs of a run directory; ``training.run.Run`` is one."""

    @property
    def path(self) -> Path:
        """The run directory."""
        ...

    @property
    def config(self) -> PipelineConfig:
        """The resolved pipeline."""
        ...

    @property
    def environment(self) -> Mapping[str, Any]:
        """Where the run took place."""
        ...

    @property
    def results(self) -> Mapping[str, Any] | None:
        """Content of ``results.json``; None before evaluation."""
        ...

    def metrics(self) -> Sequence[Mapping[str, Any]]:
        """Return the rows of ``metrics.jsonl``."""
        ...

    def load(self, which: Any = "best") -> BuiltLike:
        """Return the trained model and its data."""
        ...


def collect_runs(runs: Sequence[RunLike], sections: Sequence[ReportSection] = ()) -> list[ReportRun]:
    """Collect every run; runs of the same name are told apart by their folders, else by numbers.

    Args:
        runs: Run directories.
        sections: Contributed sections that each of them is shown in.
    """
    collected = [collect(run, sections) for run in runs]
    names = [run.name for run in collected]
    if len(set(names)) < len(names):
        names = [f"{Path(run.path).parent.name}/{Path(run.path).name}" for run in runs]
    totals, seen = Counter(names), Counter[str]()
    for index, name in enumerate(names):
        seen[name] += 1
        if totals[name] > 1:
            names[index] = f"{name} #{seen[name]}"
    return [replace(run, name=name) for run, name in zip(collected, names, strict=True)]


def collect(run: RunLike, sections: Sequence[ReportSection] = ()) -> ReportRun:
    """Read a run directory and ask its trained model for pictures; the run itself is not changed.

    Raises:
        RunDirectoryError: A file of the run is unreadable.
    """
    config, results = run.config, run.results
    split = str(results["split"]) if results else config.evaluation.split
    numbers = estimates(results) if results else {}
    diagnosis = _diagnosis(run.path)
    return ReportRun(
        name=config.name,
        description=config.description,
        seed=config.seed,
        latent_size=_latent_size(config),
        evaluated_on=_evaluated_on(results) if results else "",
        measured_at=checkpoint_of(results) if results else "",
        findings=_findings(results, diagnosis),
        diagnosis=diagnosis,
        numbers=numbers,
        skipped=dict(results.get("skipped") or {}) if results else {},
        curves=curves(run.metrics()),
        views=_views(run, split, config.seed, numbers.get("kl_per_dimension"), sections),
        pipeline=dump_config(config),
        environment=run.environment,
    )


def _diagnosis(path: Path) -> Mapping[str, Any] | None:
    file = Path(path) / "diagnosis.json"
    if not file.exists():
        return None
    try:
        found: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunDirectoryError(f"{file}: cannot be read: {error}; run uncollapse diagnose again") from None
    return found


def _findings(results: Mapping[str, Any] | None, diagnosis: Mapping[str, Any] | None) -> tuple[Finding, ...]:
    """Return what was concluded of the measured checkpoint: by a diagnosis of it, else from its numbers."""
    same = diagnosis and (not results or all(diagnosis.get(k) == results.get(k) for k in ("split", "step")))
    if diagnosis and same:
        return tuple(Finding(f["condition"], f["evidence"], tuple(f["units"])) for f in diagnosis["findings"])
    return conclude(Evidence.from_results(results), registry().conditions()[0]) if results else ()


def estimates(results: Mapping[str, Any]) -> dict[str, Estimate]:
    """Return estimates and scores of ``results.json`` by name; what has no value was not measured."""
    groups = (results.get(group) or {} for group in ("estimates", "probes"))
    return {name: Estimate.from_record(record) for group in groups for name, record in group.items()}


def curves(rows: Iterable[Mapping[str, Any]]) -> tuple[Curve, ...]:
    """Return loss, rate, distortion and every regularizer's total over epochs, for both splits.

    A regularizer is known by its terms, ``<name>/<term>``. Of more than 1000 rows, neighbours are averaged.
    """
    rows = list(rows)
    keys = {key for row in rows for key in row}
    totals = sorted({key.partition("/")[0] for key in keys if "/" in key} & keys)
    found = []
    for quantity in (*_ALWAYS, *totals):
        for split in ("train", "validation"):
            points = [
                (float(row["epoch"]), float(row[quantity]))
                for row in rows
                if row.get("split") == split and row.get(quantity) is not None and row.get("epoch") is not None
            ]
            if points:
                epochs, values = np.array(sorted(points, key=lambda point: point[0])).T
                found.append(Curve(quantity, split, _thinned(epochs), _thinned(values)))
    return tuple(found)


def _thinned(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    if len(values) <= _MOST_POINTS:
        return values
    return np.array([part.mean() for part in np.array_split(values, _MOST_POINTS)])


def _views(
    run: RunLike, split: str, seed: int, measured_kl: Estimate | None, sections: Sequence[ReportSection]
) -> Views:
    built, why = _load(run)
    if built is not None:
        views = replace(collect_views(built, split, seed), panels=collect_panels(built, split, seed, sections))
    else:
        views = Views(omitted={"pictures": why, "latents": why, "kl": why})
    if measured_kl is not None and measured_kl.per_dimension:
        # Measured on the whole evaluation set, where the view has at most a thousand of its examples.
        views = replace(views, kl_per_dimension=np.array(measured_kl.per_dimension))
    return views


def _load(run: RunLike) -> tuple[BuiltLike | None, str]:
    """Return the best model, or the last where there is no best one yet, or the reason why there is neither."""
    why = ""
    for which in ("best", "last"):
        try:
            return run.load(which), ""
        except CheckpointError as error:
            why = why or f"The trained model cannot be loaded: {error}"
    return None, why


def _latent_size(config: PipelineConfig) -> int:
    return int(np.prod(config.model.posterior.latent_shape))


def _evaluated_on(results: Mapping[str, Any]) -> str:
    examples = results.get("examples")
    return f"{results['split']}, {int(examples):,} examples" if examples is not None else str(results["split"])
