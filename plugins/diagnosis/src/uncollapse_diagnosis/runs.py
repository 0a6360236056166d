"""The diagnosis of a run directory, and the file that keeps it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from uncollapse.cli.runs import load_run
from uncollapse.files import write_atomically
from uncollapse.protocols import Batch, Split, mixed
from uncollapse.training import Run

from .diagnosis import Diagnosis, diagnose
from .prescriptions import Prescriptions, prescribe
from .settings import Settings

__all__ = ["diagnose_run"]


def diagnose_run(
    run: Run,
    *,
    split: str | None = None,
    which: Any = "best",
    device: str = "auto",
    settings: Settings | None = None,
    output: Path | None = None,
) -> tuple[Diagnosis, Prescriptions, dict[str, Any]]:
    """Diagnose a trained run, write ``diagnosis.json``, and return the diagnosis, remedies, and what was written.

    Args:
        run: The run.
        split: ``train``, ``validation`` or ``test``; by default what the pipeline evaluates.
        which: Checkpoint: ``best`` or ``last``.
        device: Where the model runs.
        settings: How much is measured.
        output: The file; by default ``diagnosis.json`` in the run's folder.

    Raises:
        ConfigError: The device is not available here.
    """
    settings = settings or Settings()
    built = load_run(run, which, device)
    name = split or run.config.evaluation.split
    part: Split = getattr(built.data, name)

    def batches() -> Iterator[Batch]:
        return mixed(part).batches(settings.batch_size, shuffle=True)

    found = diagnose(built.model, batches, classes=built.data.spec.classes, history=run.metrics(), settings=settings)
    remedies = prescribe(found.findings[0], run.config.model_dump(mode="json"))
    record = {
        "name": run.config.name,
        "seed": run.config.seed,
        "split": name,
        **run.measured_at(which),
        **found.to_dict(),
        "prescriptions": [p.to_dict() for p in remedies.ranked],
        "not_prescribed": dict(remedies.left_out),
    }
    write_atomically(output or run.path / "diagnosis.json", json.dumps(record, indent=2) + "\n")
    return found, remedies, record
