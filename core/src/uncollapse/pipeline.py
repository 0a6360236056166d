"""A pipeline in Python: validate, build, fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .building import Built, build
from .config import PipelineConfig, load_config, parse_config
from .evaluation import check_evaluation, evaluate
from .training.run import Run
from .training.trainer import Trainer

__all__ = ["Built", "Pipeline"]


class Pipeline:
    """A run described as data, and the way from it to a trained model.

    Args:
        config: The validated description.

    >>> pipeline = Pipeline.from_dict({
    ...     "name": "tiny", "data": {"type": "digits"},
    ...     "model": {"encoder": "mlp", "posterior": {"type": "gaussian", "latent_dim": 2}, "decoder": "mlp"},
    ... })
    >>> pipeline.build().model.latent_shape
    (2,)
    """

    def __init__(self, config: PipelineConfig) -> None:
        self.config = config

    @classmethod
    def from_yaml(cls, path: Path | str, overrides: Sequence[str] = ()) -> Pipeline:
        """Read a pipeline file; ``overrides`` are ``a.b.0.c=value``.

        Raises:
            ConfigError: Every wrong place, one a line.
        """
        return cls(load_config(path, overrides))

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], overrides: Sequence[str] = ()) -> Pipeline:
        """Validate a mapping as :meth:`from_yaml` does a file."""
        return cls(parse_config(raw, overrides))

    def build(self, artifacts: Path | None = None) -> Built:
        """Build every object, seeded by the pipeline's seed, and try the whole on two examples.

        Args:
            artifacts: Folder of what the data source of a run gave it to keep; None for a new run.

        Raises:
            ConfigError: Parts that cannot go together.
            ShapeError: Shapes that do not fit; the message names the part.
            DataError: Data missing, outside the likelihood's support, or not those of the run.
        """
        return build(self.config, artifacts)

    def fit(
        self,
        directory: Path | str | None = None,
        *,
        runs: Path | str = "runs",
        resume: bool = False,
        quiet: bool = False,
    ) -> Run:
        """Train, evaluate as the pipeline says, and return the run.

        Under ``torchrun`` all processes train, and the first one measures.

        Args:
            directory: The run directory; by default ``runs/<name>``.
            runs: Folder of run directories.
            resume: Go on where an interrupted run stopped.
            quiet: No progress bar.

        Raises:
            RunDirectoryError: The directory exists and ``resume`` is off, or cannot be written.
            NonFiniteLossError: The loss became NaN or infinite.
            Interrupted: The user stopped the run; it can be resumed.
        """
        directory = Path(directory) if directory is not None else Path(runs) / self.config.name
        run = Run.open(directory, self.config, resume=resume)
        built = self.build(run.artifacts if resume and run.checkpoints.has("last") else None)
        check_evaluation(built, self.config.evaluation)
        trainer = Trainer(self.config, built, run, quiet=quiet)
        trainer.fit(resume=resume)
        if trainer.disband() and (self.config.evaluation.estimators or self.config.evaluation.probes):
            trained = run.load()
            trained.model.to(trainer.device)
            results = evaluate(trained, self.config.evaluation, self.config.seed)
            run.write_results({**run.measured_at("best"), **results})
        return run
