"""Checkpoints: written so that a kill at any instant leaves the old or the new one, read without running code."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from torch import Tensor, nn

from ..errors import CheckpointError, RunDirectoryError

__all__ = ["Checkpoint", "CheckpointStore", "load_weights"]

Which = Literal["last", "best"]

_MODEL, _AVERAGED, _STATE, _META = "model.safetensors", "averaged.safetensors", "state.pt", "meta.json"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk.

    Args:
        path: Its folder.
        meta: ``step, epoch``, versions, and size and digest of every file.
    """

    path: Path
    meta: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path) -> Checkpoint:
        """Read what a checkpoint says of itself.

        Raises:
            CheckpointError: It is missing, or its description is damaged.
        """
        try:
            meta = json.loads((path / _META).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CheckpointError(f"{path}: there is no checkpoint here ({_META} is missing)") from None
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path / _META}: damaged: {error}") from None
        files = meta.get("files") if isinstance(meta, dict) else None
        if not isinstance(files, dict) or not isinstance(meta.get("step"), int):
            raise CheckpointError(f"{path / _META}: damaged: expected step and files, found {str(meta)[:80]}")
        return cls(path, meta)

    @property
    def step(self) -> int:
        """Optimizer steps done when it was written."""
        return int(self.meta["step"])

    def weights(self, *, averaged: bool = False) -> dict[str, Any]:
        """Return the model's state dict.

        Args:
            averaged: Polyak-averaged weights, where there are any; else the plain ones.

        Raises:
            CheckpointError: The file is missing, truncated or altered.
        """
        name = _AVERAGED if averaged and _AVERAGED in self.meta["files"] else _MODEL
        data = self._read(name)
        try:
            weights: dict[str, Any] = safetensors.torch.load(data)
        except Exception as error:
            # safetensors raises its own errors, ValueError and KeyError, depending on where a file is broken.
            raise CheckpointError(f"{self.path / name}: not a safetensors file: {error}") from None
        # safetensors gives them in an order of its own, another every time.
        return dict(sorted({**weights, **self.state().get("model_rest", {})}.items()))

    def state(self) -> dict[str, Any]:
        """Return the training state: tensors, numbers, strings, lists and dicts.

        Raises:
            CheckpointError: The file is missing, truncated, altered, or holds anything else; nothing in it is run.
        """
        data = self._read(_STATE)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except Exception as error:
            # A damaged pickle can make the unpickler raise nearly anything; all of it means the same to the user.
            raise CheckpointError(
                f"{self.path / _STATE}: refused, because it is damaged or holds something other than tensors and plain "
                f"values (nothing in it was run): {_reason(error)}"
            ) from None
        if not isinstance(state, dict):
            raise CheckpointError(f"{self.path / _STATE}: expected a dict, found {type(state).__name__}")
        return state

    def _read(self, name: str) -> bytes:
        path, said = self.path / name, self.meta["files"].get(name)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from None
        if not isinstance(said, dict):
            raise CheckpointError(f"{self.path / _META}: damaged: it does not describe {name}")
        if len(data) != said.get("bytes"):
            raise CheckpointError(f"{path}: truncated or altered: {len(data)} bytes, {said.get('bytes')} were written")
        if hashlib.sha256(data).hexdigest() != said.get("sha256"):
            raise CheckpointError(f"{path}: altered since it was written (its SHA-256 differs from that in {_META})")
        return data


class CheckpointStore:
    """The folder ``checkpoints/``: one folder a checkpoint, and the links ``last`` and ``best``.

    A checkpoint is written beside the others, synced, renamed, and only then linked to by replacing a symbolic link,
    which the file system does in one step. Checkpoints that no link names are removed afterwards.

    Args:
        folder: The folder; it is made when first written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, which: Which) -> Checkpoint:
        """Return the ``last`` or ``best`` checkpoint.

        Raises:
            CheckpointError: There is none, or it is damaged.
        """
        link = self.folder / which
        if not link.exists():
            other: Which = "last" if which == "best" else "best"
            hint = f"; there is {other!r}" if (self.folder / other).exists() else ""
            raise CheckpointError(f"{link}: there is no {which!r} checkpoint yet{hint}")
        return Checkpoint.open(link)

    def has(self, which: Which) -> bool:
        """Return whether there is such a checkpoint."""
        return (self.folder / which).exists()

    def save(
        self,
        model: Mapping[str, Any],
        averaged: Mapping[str, Any] | None,
        state: Mapping[str, Any],
        meta: Mapping[str, Any],
        *,
        best: bool,
    ) -> Path:
        """Write a checkpoint, link ``last`` to it (and ``best``), remove the others, and return its folder.

        Args:
            model: The model's state dict.
            averaged: The same with averaged weights, or None.
            state: Training state: tensors, numbers, strings, lists and dicts only.
            meta: JSON; has ``step``.
            best: Whether it is the best one so far, too.

        Raises:
            RunDirectoryError: It cannot be written; the old checkpoints are intact.
        """
        files = {_MODEL: safetensors.torch.save(_tensors(model))}
        if averaged is not None:
            files[_AVERAGED] = safetensors.torch.save(_tensors(averaged))
        rest = {name: value for name, value in model.items() if not isinstance(value, Tensor)}
        buffer = io.BytesIO()
        torch.save({**state, "model_rest": rest}, buffer)
        files[_STATE] = buffer.getvalue()
        described = {n: {"bytes": len(d), "sha256": hashlib.sha256(d).hexdigest()} for n, d in files.items()}
        files[_META] = json.dumps({**meta, "best": best, "files": described}, indent=2).encode()
        try:
            written = self._write(f"step-{meta['step']:08d}", files)
            self._link(("last", "best") if best else ("last",), written)
        except OSError as error:
            self.tidy()
            raise RunDirectoryError(self._message(error, meta["step"])) from error
        self.tidy()
        return written

    def repair(self) -> None:
        """Finish what a killed writer left, and turn folders that a copy made of the links into links again.

        Raises:
            CheckpointError: The last checkpoint is damaged.
            RunDirectoryError: The folder cannot be written.
        """
        names: tuple[Which, ...] = ("last", "best")
        try:
            for which in names:
                link, copied = self.folder / which, self.folder / f"step-copied-{which}"
                if link.is_dir() and not link.is_symlink():
                    os.rename(link, copied)
                if copied.is_dir() and not link.exists():
                    self._link((which,), copied)
            if self.has("last") and self.open("last").meta.get("best") is True:
                self._link(("best",), (self.folder / "last").resolve())
        except OSError as error:
            raise RunDirectoryError(f"{self.folder}: cannot be written: {error.strerror or error}") from error
        self.tidy()

    def tidy(self) -> None:
        """Remove checkpoints that no link names, and leftovers of killed writers."""
        if not self.folder.is_dir():
            return
        kept = {(self.folder / which).resolve() for which in ("last", "best")}
        for path in self.folder.iterdir():
            if path.is_symlink():
                if path.name not in ("last", "best"):
                    path.unlink()
            elif path.name.lstrip(".").startswith("step-") and path.resolve() not in kept:
                shutil.rmtree(path, ignore_errors=True)

    def _write(self, name: str, files: Mapping[str, bytes]) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".{name}-{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        for file, data in files.items():
            _write_synced(temporary / file, data)
        _sync_directory(temporary)
        final, number = self.folder / name, 1
        while final.exists():
            number += 1
            final = self.folder / f"{name}-{number}"
        os.rename(temporary, final)
        _sync_directory(self.folder)
        return final

    def _link(self, names: tuple[Which, ...], target: Path) -> None:
        for which in names:
            link, temporary = self.folder / which, self.folder / f".{which}-{os.getpid()}"
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(target.name, target_is_directory=True)
            os.replace(temporary, link)
        _sync_directory(self.folder)

    def _message(self, error: OSError, step: int) -> str:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        reason = f"no space left ({error.strerror})" if full else str(error.strerror or error)
        try:
            intact = f"the checkpoint of step {self.open('last').step} is intact"
        except CheckpointError:
            intact = "there is no earlier one"
        advice = "Free some space" if full else "Make the folder writable"
        return (
            f"{self.folder}: the checkpoint of step {step} cannot be written: {reason}; {intact}. {advice} and go on "
            "with: uncollapse train PIPELINE --resume"
        )


def load_weights(module: nn.Module, weights: Mapping[str, Any], where: str) -> None:
    """Load a state dict, or say which parameters do not fit.

    Args:
        module: What it is loaded into.
        weights: The state dict.
        where: The checkpoint, for the message.

    Raises:
        CheckpointError: Names or shapes differ; the message names the first ones.
    """
    own = module.state_dict()
    problems = [f"{name} is missing from the checkpoint" for name in own if name not in weights]
    problems += [f"{name} is unknown to the model" for name in weights if name not in own]
    for name, value in own.items():
        found = weights.get(name)
        if isinstance(value, Tensor) and isinstance(found, Tensor) and value.shape != found.shape:
            shapes = f"{tuple(found.shape)} in the checkpoint, {tuple(value.shape)} in the model"
            problems.append(f"{name} has shape {shapes}")
    if problems:
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(f"{where}: from another pipeline: {'; '.join(problems[:3])}{more}")
    module.load_state_dict(weights)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # torch begins with the advice to load the file anyway, which is the last thing to do with a strange one.
    telling = [line for line in lines if "nsupported" in line] or [line for line in lines if "weights_only" not in line]
    return telling[0].rstrip(".") if telling else type(error).__name__


def _tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    # Copies, because tied parameters share memory, which safetensors refuses to store twice.
    return {n: v.detach().cpu().contiguous().clone() for n, v in state.items() if isinstance(v, Tensor)}


def _write_synced(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
