"""The training loop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch

from ..building import Built, steps_per_epoch
from ..capabilities import supports
from ..config.pipeline import PipelineConfig, schedules_in
from ..devices import make_accelerator
from ..errors import CheckpointError, ConfigError, Interrupted, NonFiniteLossError
from ..protocols import Batch, KeepsArtifacts, Progress, finished, joined
from ..randomness import separate_stream
from ..version import __version__
from .checkpoint import Checkpoint
from .environment import plugin_versions
from .interrupt import StopRequest
from .learner import Learner
from .records import ProgressDisplay, Records
from .run import Run, fingerprint
from .state import TrainingState
from .window import LossWindow, Place

__all__ = ["Trainer"]


class Trainer:
    """Trains what a pipeline describes and keeps its run directory.

    Nothing is written before everything has been built. Inside an epoch the host never waits for the device, except
    where a row is logged or a checkpoint written.

    Args:
        config: The pipeline.
        built: Its objects.
        run: Where everything is kept.
        quiet: No progress bar.

    Raises:
        ConfigError: The device asked for is not here.
    """

    learner: Learner

    def __init__(self, config: PipelineConfig, built: Built, run: Run, *, quiet: bool = False) -> None:
        self.config, self.built, self.run, self.quiet = config, built, run, quiet
        self.state = TrainingState()
        self.accelerator = make_accelerator(config.training)
        self.device, self.processes = self.accelerator.device, self.accelerator.num_processes
        self._batch_size = config.data.batch_size
        self.steps_per_epoch, self._drop_last = steps_per_epoch(
            built.data.train, self._batch_size, config.training.drop_last, self.processes
        )
        self._total_steps = self.steps_per_epoch * config.training.epochs
        self._settled_step = max((s.epochs() for _, s in schedules_in(config)), default=0.0) * self.steps_per_epoch
        self._stop = StopRequest()
        self._identity = {
            "version": __version__,
            "plugins": plugin_versions(),
            "pipeline": fingerprint(config),
            "processes": self.processes,
        }
        self._window = LossWindow(self.device, self.processes)
        self._weights: dict[str, float] = {}
        self._records: Records | None = None
        self._display: ProgressDisplay | None = None

    def fit(self, resume: bool = False) -> None:
        """Train to the end.

        Args:
            resume: Go on from the last checkpoint; from the beginning where the run has none yet.

        Raises:
            RunDirectoryError: The directory is taken, or cannot be written; the last checkpoint is intact.
            CheckpointError: The checkpoint to go on from is damaged, or from another pipeline.
            NonFiniteLossError: The loss became NaN or infinite; the last checkpoint is intact.
            Interrupted: SIGINT or SIGTERM came; a checkpoint was written.
        """
        try:
            with self._stop:
                self.prepare(resume=resume)
                while not self._is_over():
                    self.train_epoch()
                    self.finish_epoch()
        finally:
            self.close()

    def prepare(self, *, resume: bool = False) -> None:
        """Build what learns, restore or initialize it, and open the run directory; :meth:`fit` calls it."""
        Run.open(self.run.path, self.config, resume=resume)
        checkpoints = self.run.checkpoints
        if resume and self.accelerator.is_main_process:
            checkpoints.repair()
        self.accelerator.wait_for_everyone()
        checkpoint = checkpoints.open("last") if resume and checkpoints.has("last") else None
        self.learner = Learner(self.config, self.built, self.accelerator, initialize=checkpoint is None)
        rows = 0 if checkpoint is None else self._restore(checkpoint)
        if self.accelerator.is_main_process:
            data = self.built.data
            artifacts = data.artifacts() if supports(data, KeepsArtifacts) else {}
            self.run.begin(self.config, resume=resume, artifacts=artifacts)
            self._records = Records(self.run.path, rows, self.state.step)
            self._display = ProgressDisplay(self._total_steps, self.state.step, quiet=self.quiet)
        self.accelerator.wait_for_everyone()
        self._restart_clock()

    def close(self) -> None:
        """Close files and progress bar."""
        if self._records is not None:
            self._records.close()
        if self._display is not None:
            self._display.close()

    def disband(self) -> bool:
        """Wait for all processes, end their group, and return whether this one is to go on alone."""
        self.accelerator.wait_for_everyone()
        main = bool(self.accelerator.is_main_process)
        if self.processes > 1:
            # What holds the group keeps its threads, and one that runs while Python shuts down aborts the process.
            del self.learner
            self.accelerator.free_memory()
            torch.distributed.destroy_process_group()
        return main

    def train_epoch(self) -> None:
        """Train on what is left of the current epoch. Raises as :meth:`fit` does."""
        state, training, window = self.state, self.config.training, self._window
        learner, display = self.learner, self._display
        learner.train()
        batches = self.built.data.train.batches(
            self._batch_size,
            epoch=state.epoch,
            shuffle=True,
            drop_last=self._drop_last,
            start=state.position,
            rank=self.accelerator.process_index,
            world_size=self.processes,
            device=self.device,
        )
        for batch in batches:
            terms, weights = learner.step(batch, Progress(state.step, self.steps_per_epoch, self._total_steps))
            examples = len(batch)
            window.add(Place(state.step, state.epoch, state.position), examples, terms)
            self._weights = dict(weights)
            self._examples += examples
            state.step += 1
            state.position += 1
            if state.step % training.log_every == 0:
                self._log()
                # Processes must stop at the same step, and here they meet anyway.
                if self.processes > 1 and self._anyone_stops():
                    self._interrupt()
            if training.checkpoint_every_steps is not None and state.step % training.checkpoint_every_steps == 0:
                self.save()
            if display is not None:
                display.advance(state.step)
            if self._stop.made and self.processes == 1:
                self._interrupt()

    def finish_epoch(self) -> None:
        """Validate and save where this is due, and move on to the next epoch. Raises as :meth:`fit` does."""
        state, training = self.state, self.config.training
        has_validation = len(self.built.data.validation) > 0
        improved = False
        if state.epoch + 1 >= training.epochs or (state.epoch + 1) % training.validate_every == 0:
            self._log()
            if has_validation:
                improved = self._judge(*self.validate())
        self.learner.epoch_ended(lambda: self._validation(whole=True))
        state.epoch, state.position = state.epoch + 1, 0
        if improved or self._is_over() or state.epoch % training.checkpoint_every_epochs == 0:
            self.save(best=improved or not has_validation)
        self._restart_clock()

    def validate(self) -> tuple[dict[str, float], dict[str, float]]:
        """Return every term's mean over the validation set, with averaged weights if any, and the schedules' values.

        Every schedule is at its final value, and the posterior's noise is the same in every validation: two of them
        differ by the weights alone.

        Raises:
            NonFiniteLossError: The loss of a batch is NaN or infinite.
            Interrupted: SIGINT or SIGTERM came; the validation is repeated when the run is resumed.
        """
        state, weights = self.state, {}
        window = LossWindow(self.device, self.processes, "validation")
        progress = finished(Progress(state.step, self.steps_per_epoch, self._total_steps))
        with self.learner.evaluating() as criterion, separate_stream(self.config.seed, self.device):
            for position, batch in enumerate(self._validation()):
                outcome = criterion(batch, progress)
                window.add(Place(state.step, state.epoch, position), len(batch), outcome.terms)
                weights = dict(outcome.weights)
                if self._stop.made and self.processes == 1:
                    break
        if self._stop.made and self.processes == 1:
            self._interrupt()
        return window.averages(), weights

    def save(self, *, best: bool = False) -> None:
        """Write a checkpoint, once all losses and weights have been found finite.

        Args:
            best: Whether it is the best one so far.

        Raises:
            NonFiniteLossError: They are not; the last checkpoint stays.
            RunDirectoryError: It cannot be written; the last checkpoint stays.
        """
        self._window.settle()
        self._require_finite_weights()
        learned = self.learner.state_dict()
        if self._records is not None:
            self._records.sync()
            progress: dict[str, Any] = {
                "progress": self.state.state_dict(),
                "window": self._window.state(),
                "weights": self._weights,
                "rows": self._records.rows,
            }
            meta = {
                "step": self.state.step,
                "epoch": self.state.step / self.steps_per_epoch,
                "best_value": self.state.best,
                **self._identity,
            }
            best = best or self.config.training.monitor == "last"
            self.run.checkpoints.save(*self.learner.weights(), {**learned, **progress}, meta, best=best)
        self.accelerator.wait_for_everyone()

    def _validation(self, *, whole: bool = False) -> Iterator[Batch]:
        """Start a pass over the validation split: this process's share of it, or the whole."""
        rank, processes = (0, 1) if whole else (self.accelerator.process_index, self.processes)
        split = self.built.data.validation
        return joined(split.batches(self._batch_size, rank=rank, world_size=processes, device=self.device), split.spec)

    def _restore(self, checkpoint: Checkpoint) -> int:
        """Restore everything from a checkpoint and return how many rows of metrics it knew of."""
        saved = checkpoint.state()
        try:
            self.state = TrainingState.from_state_dict(saved["progress"])
            self._window.load(saved["window"])
            self._weights = dict(saved["weights"])
            self.learner.load(checkpoint, saved, self.state.step)
            return int(saved["rows"])
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
            reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
            raise CheckpointError(f"{checkpoint.path}: its training state does not fit: {reason}") from error

    def _log(self) -> None:
        averages = self._window.averages()
        if averages:
            speed = self._examples * self.processes / (time.perf_counter() - self._started)
            more = {**self._weights, "lr": self.learner.rate, "examples_per_second": round(speed, 1)}
            self._write("train", averages, more)
        self._restart_clock()

    def _judge(self, averages: dict[str, float], weights: dict[str, float]) -> bool:
        """Record a validation, let early stopping and the learning rate react, and return whether it is the best."""
        state, training = self.state, self.config.training
        self._write("validation", averages, weights)
        monitor = "loss" if training.monitor == "last" else training.monitor
        if monitor not in averages:
            raise ConfigError(
                f"training.monitor: the objective has no {monitor!r}; its terms are {', '.join(averages)}"
            )
        value = averages[monitor] * (-1 if monitor == "elbo" else 1)
        parts = (self.built.objective, *self.built.regularizers.values())
        # The ELBO means the same at every step; a loss with a weight that still moves does not.
        comparable = monitor == "elbo" or all(getattr(part, "settled", True) for part in parts)
        settled = comparable and state.step >= self._settled_step
        improved = state.judge(value, training.early_stopping, settled=settled, comparable=comparable)
        state.stopped = self.learner.validated(value, state.step, lambda: self.run.checkpoints.open("best"))
        return improved

    def _is_over(self) -> bool:
        return self.state.is_over(self.config.training.epochs, self.config.training.early_stopping)

    def _write(self, split: str, averages: dict[str, float], more: dict[str, float]) -> None:
        if self._records is None or self._display is None:
            return
        step = self.state.step
        head = {"step": step, "epoch": round(step / self.steps_per_epoch, 6), "split": split, "loss": averages["loss"]}
        row = {**head, **averages, **more}
        self._records.write(row)
        self._display.show(row)

    def _restart_clock(self) -> None:
        self._started, self._examples = time.perf_counter(), 0

    def _anyone_stops(self) -> bool:
        flag = torch.tensor(float(self._stop.made), device=self.device)
        torch.distributed.all_reduce(flag)
        return bool(flag.item())

    def _interrupt(self) -> None:
        self.save()
        raise Interrupted(
            f"stopped after {self.state.step} of {self._total_steps} steps; everything is saved in {self.run.path}. "
            "Go on with: uncollapse train PIPELINE --resume"
        )

    def _require_finite_weights(self) -> None:
        bad, last = self.learner.non_finite(), self._window.last
        if bad and last is not None:
            raise NonFiniteLossError(
                f"the gradient of step {last.step}, in batch {last.position} of epoch {last.epoch} (all counted from "
                f"0), made {len(bad)} parameters NaN or infinite, {bad[0]} first, although the loss was finite. Lower "
                "training.optimizer.lr, or set training.gradient_clip or model.posterior.logvar_range"
            )
