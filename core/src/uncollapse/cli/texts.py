"""What a trained model makes of sentences: reconstructions, and the way between two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ..errors import ConfigError
from ..files import write_atomically
from ..pipeline import Built
from ..protocols import ReadsText, Split, mixed
from ..text import interpolate, reconstruct
from ..training.run import Run
from .runs import load_run

__all__ = ["as_lines", "between", "check_suffix", "reconstructions", "write_lines"]


def reconstructions(
    path: Path,
    count: int,
    output: Path | None,
    seed: int,
    which: Any,
    device: str,
    reading: Mapping[str, Any],
) -> None:
    """Print ``count`` texts of the split that the pipeline evaluates, drawn at random, each above its reconstruction.

    Raises:
        ConfigError: The run's data are no texts, or there are fewer.
    """
    run, built, data = _load(path, which, device, output, "--reconstruct")
    part = run.config.evaluation.split
    split: Split = getattr(built.data, part)
    if count > len(split):
        raise ConfigError(f"--reconstruct {count}: the {part} split has {len(split)} texts; use at most as many")
    # The split's own order is that of the files, which may be sorted by class.
    drawn = next(iter(mixed(split).batches(count, epoch=seed, shuffle=True)))
    torch.manual_seed(seed)
    made = reconstruct(built.model, data, drawn.x, **reading)
    pairs = zip(as_lines(data.to_texts(drawn.x)), as_lines(made), strict=True)
    _say(output, [line for text, again in pairs for line in (text, f"  {again}")])


def between(
    path: Path,
    ends: tuple[str, str],
    steps: int,
    output: Path | None,
    seed: int,
    which: Any,
    device: str,
    reading: Mapping[str, Any],
) -> None:
    """Print texts on the straight line between the codes of two sentences.

    Raises:
        ConfigError: The run's data are no texts.
        DataError: A sentence has no token, or more than the run's data have.
    """
    _, built, data = _load(path, which, device, output, "--between")
    torch.manual_seed(seed)
    _say(output, as_lines(interpolate(built.model, data, ends, steps, **reading)))


def check_suffix(output: Path | None, allowed: Sequence[str]) -> None:
    """Raise ConfigError unless the name of a file ends in one of ``allowed``."""
    if output is not None and output.suffix.lower() not in allowed:
        known = " or ".join(filter(None, [", ".join(allowed[:-1]), allowed[-1]]))
        raise ConfigError(f"--output {output}: expected a name that ends in {known}, found {output.suffix!r}")


def as_lines(texts: Sequence[str]) -> list[str]:
    """Return texts without line breaks of their own, for one line each."""
    return [" ".join(text.splitlines()) for text in texts]


def write_lines(output: Path, lines: Sequence[str]) -> None:
    """Write one text a line."""
    write_atomically(output, "".join(f"{line}\n" for line in lines))


def _load(path: Path, which: Any, device: str, output: Path | None, option: str) -> tuple[Run, Built, ReadsText]:
    check_suffix(output, (".txt",))
    run = Run(path)
    built = load_run(run, which, device)
    data = built.data
    if not isinstance(data, ReadsText):
        raise ConfigError(
            f"{option}: the run's data, {run.config.data.type!r}, are no texts; a report shows what the model makes of "
            "them"
        )
    return run, built, data


def _say(output: Path | None, lines: Sequence[str]) -> None:
    console = Console(highlight=False)
    if output is None:
        console.print("\n".join(lines), soft_wrap=True, markup=False)
    else:
        write_lines(output, lines)
        console.print(f"{len(lines)} lines are in {output}", soft_wrap=True)
