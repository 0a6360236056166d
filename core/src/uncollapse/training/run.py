"""A run's directory: what it holds, who may write it, and the trained model out of it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from ..building import Built, build
from ..config.load import dump_config, load_config
from ..config.pipeline import PipelineConfig
from ..errors import RunDirectoryError
from ..files import write_atomically
from .checkpoint import CheckpointStore, Which, load_weights
from .criterion import Criterion
from .environment import describe_environment, now

__all__ = ["Run", "fingerprint"]

_PIPELINE, _ENVIRONMENT, _METRICS, _RESULTS = "pipeline.yaml", "environment.json", "metrics.jsonl", "results.json"

# What may change when a run is resumed: how long, where and how often it saves, and what is measured afterwards.
_FREE = ("name", "evaluation", "training.epochs", "training.device", "training.early_stopping",
         "training.checkpoint_every_epochs", "training.checkpoint_every_steps")  # fmt: skip


class Run:
    """A run directory: pipeline, environment, metrics, checkpoints, results.

    Making the object touches nothing on disk.

    Args:
        path: The directory.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.checkpoints = CheckpointStore(self.path / "checkpoints")

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @classmethod
    def open(cls, path: Path | str, config: PipelineConfig, *, resume: bool = False) -> Run:
        """Return the run that ``config`` may write to ``path``; nothing is written yet (see :meth:`begin`).

        Args:
            path: The directory: new or empty, or that of the run to go on with.
            config: What is to be trained.
            resume: Go on with the run that is there.

        Raises:
            RunDirectoryError: The directory holds something already; or there is nothing to resume, or the run there
                is of another pipeline.
        """
        run = cls(path)
        if run.path.exists() and not run.path.is_dir():
            raise RunDirectoryError(f"{run.path}: expected a folder, found a file; give the run another name")
        if resume:
            run._check_same(config)
        elif os.environ.get("RANK", "0") != "0":
            # Of several processes the first one looks and writes; what it has written already is no reason to stop.
            return run
        elif run.path.exists() and any(run.path.iterdir()):
            raise RunDirectoryError(
                f"{run.path} exists and is not empty; nothing was changed. Resume that run with --resume, or give this "
                "one another name or folder"
            )
        return run

    def begin(
        self, config: PipelineConfig, *, resume: bool = False, artifacts: Mapping[str, bytes] | None = None
    ) -> None:
        """Make the directory and write pipeline and environment; called once everything has been built.

        Args:
            config: What is trained.
            resume: Go on with the run that is there.
            artifacts: What the data source gives the run to keep, by file name.

        Raises:
            RunDirectoryError: As for :meth:`open`, or it cannot be written.
        """
        Run.open(self.path, config, resume=resume)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunDirectoryError(f"{self.path}: cannot be made: {error.strerror or error}") from error
        self._write_new(config, replace=resume)
        for name, content in (artifacts or {}).items():
            write_atomically(self.artifacts / name, content)
        if resume and (self.path / _ENVIRONMENT).exists():
            earlier = self._json(_ENVIRONMENT)
            environment = {**earlier, "resumed": [*earlier.get("resumed", []), now()]}
        else:
            environment = describe_environment()
        write_atomically(self.path / _ENVIRONMENT, json.dumps(environment, indent=2) + "\n")

    @property
    def artifacts(self) -> Path:
        """Folder of what the data source gave the run to keep (a vocabulary); it is there if there is something."""
        return self.path / "data"

    @cached_property
    def config(self) -> PipelineConfig:
        """The resolved pipeline.

        Raises:
            RunDirectoryError: This is no run directory.
            ConfigError: A component that it names is not installed (any more).
        """
        self._require_run()
        return load_config(self.path / _PIPELINE)

    @property
    def environment(self) -> dict[str, Any]:
        """What the run ran on."""
        self._require_run()
        return self._json(_ENVIRONMENT)

    @property
    def results(self) -> dict[str, Any] | None:
        """The measured numbers, or None before the evaluation."""
        self._require_run()
        return self._json(_RESULTS) if (self.path / _RESULTS).exists() else None

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Write the measured numbers with the run's name and seed, all or nothing.

        Raises:
            RunDirectoryError: They cannot be written.
        """
        named = {"name": self.config.name, "seed": self.config.seed, **results}
        write_atomically(self.path / _RESULTS, json.dumps(named, indent=2) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """Return the rows of ``metrics.jsonl``, oldest first; a row cut short by a kill is left out.

        Raises:
            RunDirectoryError: This is no run directory, or a row is damaged.
        """
        self._require_run()
        path = self.path / _METRICS
        rows = []
        for number, line in enumerate(_lines(path) if path.exists() else (), 1):
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise RunDirectoryError(f"{path}, row {number}: damaged: {error}") from None
        return rows

    def load(self, which: Which = "best") -> Built:
        """Return the pipeline's objects with the trained weights (averaged ones, if any), in evaluation mode.

        Args:
            which: ``best``, the lowest validation loss; or ``last``.

        Raises:
            CheckpointError: There is no such checkpoint, it is damaged, or from another pipeline.
            DataError: The data are missing, or do not agree with what the run kept of them.
        """
        checkpoint = self.checkpoints.open(which)
        built = build(self.config, self.artifacts)
        criterion = Criterion(built.model, built.objective, built.regularizers)
        load_weights(built.model, checkpoint.weights(averaged=True), str(checkpoint.path))
        criterion.load_side_state(checkpoint.state().get("criterion", {}))
        criterion.eval()
        return built

    def measured_at(self, which: Which) -> dict[str, Any]:
        """Return which checkpoint is measured: ``checkpoint``, its ``step``, and the ``steps`` that were trained."""
        open_ = self.checkpoints.open
        return {"checkpoint": str(which), "step": open_(which).step, "steps": open_("last").step}

    def _write_new(self, config: PipelineConfig, *, replace: bool) -> None:
        path = self.path / _PIPELINE
        if replace:
            write_atomically(path, dump_config(config))
            return
        try:
            # Exclusive: of two runs started at once with one name, only one gets the directory.
            with open(path, "x", encoding="utf-8") as file:
                file.write(dump_config(config))
                file.flush()
                os.fsync(file.fileno())
        except FileExistsError:
            raise RunDirectoryError(
                f"{self.path}: another run has just started here; give this one another name"
            ) from None
        except OSError as error:
            path.unlink(missing_ok=True)
            raise RunDirectoryError(f"{path}: cannot be written: {error.strerror or error}") from error

    def _check_same(self, config: PipelineConfig) -> None:
        if not (self.path / _PIPELINE).exists():
            raise RunDirectoryError(f"{self.path}: there is no run to resume here; start it without --resume")
        try:
            earlier = yaml.safe_load((self.path / _PIPELINE).read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise RunDirectoryError(f"{self.path / _PIPELINE}: cannot be read: {error}") from None
        found = dict(_leaves(earlier))
        wanted = dict(_leaves(config.model_dump(mode="json")))
        changed = [p for p in dict.fromkeys([*found, *wanted]) if found.get(p) != wanted.get(p) and not _is_free(p)]
        if changed:
            listed = "; ".join(f"{p} was {found.get(p)!r}, now {wanted.get(p)!r}" for p in changed[:3])
            more = f"; and {len(changed) - 3} more" if len(changed) > 3 else ""
            raise RunDirectoryError(
                f"{self.path} holds a run of another pipeline: {listed}{more}. Resume it with its own pipeline "
                f"({self.path / _PIPELINE}), or give this one another name"
            )

    def _require_run(self) -> None:
        if not (self.path / _PIPELINE).is_file():
            what = "it does not exist" if not self.path.exists() else f"it holds no {_PIPELINE}"
            raise RunDirectoryError(f"{self.path} is not a run directory: {what}")

    def _json(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            read = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunDirectoryError(f"{path}: cannot be read: {error}") from None
        if not isinstance(read, dict):
            raise RunDirectoryError(f"{path}: expected a mapping, found {type(read).__name__}")
        return read


def fingerprint(config: PipelineConfig) -> str:
    """Return a digest of everything in a pipeline that shapes its training."""
    fixed = sorted((p, repr(v)) for p, v in _leaves(config.model_dump(mode="json")) if not _is_free(p))
    return hashlib.sha256(json.dumps(fixed).encode()).hexdigest()


def _is_free(place: str) -> bool:
    return any(place == free or place.startswith(f"{free}.") for free in _FREE)


def _leaves(node: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _leaves(value, f"{place}.{key}" if place else str(key))
    elif isinstance(node, list) and node:
        for i, value in enumerate(node):
            yield from _leaves(value, f"{place}.{i}")
    else:
        yield place, node


def _lines(path: Path) -> list[str]:
    """Return the complete lines of a file."""
    return path.read_text(encoding="utf-8").split("\n")[:-1]
