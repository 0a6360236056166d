"""What the command ``uncollapse texts`` does: read texts off a trained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from uncollapse.capabilities import supports
from uncollapse.cli.runs import load_run
from uncollapse.errors import ConfigError
from uncollapse.files import write_atomically
from uncollapse.pipeline import Built
from uncollapse.protocols import ReadsText, Split, mixed
from uncollapse.training import Run

from .lines import as_lines
from .texts import from_prior as tokens_from_prior
from .texts import interpolate, reconstruct

__all__ = ["between", "from_prior", "reconstructions"]


def from_prior(
    path: Path,
    count: int,
    output: Path | None,
    seed: int,
    which: Any,
    device: str,
    reading: Mapping[str, Any],
) -> None:
    """Print texts for ``count`` latents drawn from the prior.

    Raises:
        ConfigError: The run's data are no texts.
    """
    _, built, data = _load(path, which, device, output, "uncollapse texts")
    torch.manual_seed(seed)
    _say(output, as_lines(data.to_texts(tokens_from_prior(built.model, count, **reading).cpu())))


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


def _load(path: Path, which: Any, device: str, output: Path | None, option: str) -> tuple[Run, Built, ReadsText]:
    if output is not None and output.suffix.lower() != ".txt":
        raise ConfigError(f"--output {output}: expected a name that ends in .txt, found {output.suffix!r}")
    run = Run(path)
    built = load_run(run, which, device)
    data = built.data
    if not supports(data, ReadsText):
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
        write_atomically(output, "".join(f"{line}\n" for line in lines))
        console.print(f"{len(lines)} lines are in {output}", soft_wrap=True)
