"""Where a run's numbers go while it trains: ``metrics.jsonl``, TensorBoard, and the progress bar."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..errors import RunDirectoryError

__all__ = ["MetricsFile", "ProgressDisplay", "Records"]


class MetricsFile:
    """``metrics.jsonl``, appended to row by row.

    Args:
        path: The file.
        rows: Rows to keep of what is there: those that the checkpoint knew of when a run is resumed, 0 for a new one.

    Raises:
        RunDirectoryError: It cannot be written.
    """

    def __init__(self, path: Path, rows: int = 0) -> None:
        self.path, self.rows = path, 0
        try:
            self._file = open(path, "a+b", buffering=0)  # noqa: SIM115 - closed by close()
            self._file.seek(0)
            kept = 0
            for line in self._file.readlines():
                if self.rows == rows or not line.endswith(b"\n"):
                    break
                self.rows, kept = self.rows + 1, kept + len(line)
            self._file.truncate(kept)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row; a number that JSON cannot hold becomes null."""
        plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        try:
            self._file.write(json.dumps(plain).encode() + b"\n")
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self.rows += 1

    def sync(self) -> None:
        """Wait until every row is on the disk."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _unwritable(path: Path, error: OSError) -> RunDirectoryError:
    return RunDirectoryError(
        f"{path}: cannot be written: {error.strerror or error}. The last checkpoint is intact; go on with: "
        "uncollapse train PIPELINE --resume"
    )


class Records:
    """Writes rows to ``metrics.jsonl`` and, when it is installed, to TensorBoard.

    Args:
        folder: The run directory.
        rows: Rows of ``metrics.jsonl`` to keep.
        step: Step that the run goes on from; later TensorBoard events are dropped.
    """

    def __init__(self, folder: Path, rows: int = 0, step: int = 0) -> None:
        self._folder, self._step = folder, step
        self._metrics = MetricsFile(folder / "metrics.jsonl", rows)

    @cached_property
    def _board(self) -> Any:
        # With the first row: the import takes a quarter of a second, which the first step need not wait for.
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return None
        return SummaryWriter(str(self._folder / "tensorboard"), purge_step=self._step + 1 if self._step else None)

    @property
    def rows(self) -> int:
        """Rows written so far."""
        return self._metrics.rows

    def write(self, row: Mapping[str, Any]) -> None:
        """Write a row with ``step`` and ``split``; its other numbers become curves ``<split>/<name>``."""
        self._metrics.append(row)
        try:
            if self._board is None:
                return
            for name, value in row.items():
                if name not in ("step", "split") and isinstance(value, float):
                    self._board.add_scalar(f"{row['split']}/{name}", value, row["step"])
        except OSError as error:
            raise _unwritable(self._folder / "tensorboard", error) from error

    def sync(self) -> None:
        """Wait until every row is on the disk."""
        self._metrics.sync()

    def close(self) -> None:
        """Close everything."""
        self._metrics.close()
        if vars(self).get("_board") is not None:
            # Its events repeat metrics.jsonl, and an error here would hide the one that ended the run.
            with suppress(OSError):
                self._board.close()


class ProgressDisplay:
    """A progress bar with loss, rate, distortion, speed and time left; nothing when quiet or not on a terminal.

    Args:
        total: Steps of the run.
        done: Steps done before.
        quiet: Show nothing.
    """

    def __init__(self, total: int, done: int, *, quiet: bool) -> None:
        console = Console(stderr=True)
        self._bar: Progress | None = None
        self._seen = time.perf_counter()
        if quiet or not console.is_terminal:
            return
        # No refresh thread: it would compete with the training loop for the interpreter.
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            console=console,
            auto_refresh=False,
        )
        self._task = self._bar.add_task("train", total=total, completed=done, epoch=0, numbers="")
        self._bar.start()

    def advance(self, step: int) -> None:
        """Move the bar to ``step``, at most five times a second."""
        if self._bar is not None and time.perf_counter() - self._seen > 0.2:
            self._seen = time.perf_counter()
            self._bar.update(self._task, completed=step)
            self._bar.refresh()

    def show(self, row: Mapping[str, Any]) -> None:
        """Show a row's numbers."""
        if self._bar is None:
            return
        shown = [f"{name} {row[name]:.2f}" for name in ("loss", "rate", "distortion") if row.get(name) is not None]
        if "examples_per_second" in row:
            shown.append(f"{row['examples_per_second']:.0f} examples/s")
            self._bar.update(self._task, numbers="  ".join(shown))
        self._bar.update(self._task, completed=row["step"], epoch=f"{row['epoch']:.2f}")
        self._bar.refresh()

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.stop()
