"""Draws from a trained run: a picture, lines of text, or numbers."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import torch
import yaml
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from torch import Tensor

from ..config.component import Installed, SamplerConfig
from ..config.explain import explain
from ..errors import ConfigError
from ..files import write_atomically
from ..pipeline import Built
from ..plugins import registry
from ..protocols import NeedsTrainingData, ReadsText, ReportsProgress, Sampler, mixed
from ..report.images import is_image, pixels, png, strip
from ..text import from_prior
from ..training.run import Run
from .runs import load_run
from .texts import as_lines, check_suffix, write_lines

__all__ = ["sample"]

_SUFFIXES = (".png", ".npz", ".txt")
_BATCH = 256
_SHOWN = 10
_DEFAULT = "ancestral"


def sample(
    path: Path,
    count: int,
    output: Path | None,
    sampler: str,
    seed: int,
    which: Any,
    device: str,
    reading: Mapping[str, Any],
) -> None:
    """Draw ``count`` samples from a run and write them; of texts, the first few are printed too.

    With something in ``reading`` texts for latents from the prior are read off ``p(x|z)`` as it says.

    Raises:
        ConfigError: The sampler or the format is unknown, or the data are no images, or no texts.
    """
    check_suffix(output, _SUFFIXES)
    config = _sampler(sampler)
    run = Run(path)
    built = load_run(run, which, device)
    spec, data = built.data.spec, built.data
    fits = {".png": is_image(spec), ".txt": isinstance(data, ReadsText), ".npz": True}
    fitting = [suffix for suffix in fits if fits[suffix]]
    output = output or path / f"samples{fitting[0]}"
    suffix = output.suffix.lower()
    if suffix not in fitting:
        raise ConfigError(
            f"--output {output}: the run's data have shape {spec.event_shape} and support {spec.support!r}, which "
            f"is no {'picture' if suffix == '.png' else 'text'}; use a name that ends in {' or '.join(fitting)}"
        )
    if reading and (sampler != _DEFAULT or not isinstance(data, ReadsText)):
        found = f"--sampler {sampler}" if sampler != _DEFAULT else f"data {run.config.data.type!r}"
        raise ConfigError(
            f"--decoding: says how texts are read off p(x|z) for latents from the prior, but found {found}; leave it "
            "out"
        )
    torch.manual_seed(seed)
    x = (from_prior(built.model, count, **reading) if reading else _drawn(config, built, count)).cpu()
    console = Console(highlight=False)
    if suffix == ".txt":
        texts = as_lines(cast(ReadsText, data).to_texts(x))
        write_lines(output, texts)
        console.print("\n".join(texts[:_SHOWN]), soft_wrap=True, markup=False)
    else:
        values = (x if spec.support == "tokens" else x.float()).numpy()
        write_atomically(output, _picture(values) if suffix == ".png" else _arrays(values))
    console.print(f"{count} samples are in {output}", soft_wrap=True)


def _drawn(config: SamplerConfig, built: Built, count: int) -> Tensor:
    draw = config.build(built.context)
    if isinstance(draw, NeedsTrainingData):
        draw.prepare(lambda: mixed(built.data.train).batches(_BATCH, shuffle=True))
    with torch.no_grad(), _watched(draw):
        return draw(built.model, count)


@contextmanager
def _watched(draw: Sampler) -> Iterator[None]:
    """Show on a terminal how far a sampler is, if it reports that."""
    console = Console(stderr=True)
    if not isinstance(draw, ReportsProgress) or not console.is_terminal:
        yield
        return
    columns = TextColumn("drawing"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    # No refresh thread: it would compete with the draws for the interpreter.
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task("", total=1.0)
        draw.progress = lambda share: bar.update(task, completed=share, refresh=True)
        yield


def _sampler(text: str) -> SamplerConfig:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(
            f"--sampler {text}: not valid YAML; expected a type, or '{{type: scaled_gaussian, scale: 0.7}}'"
        ) from None
    known = registry().find("sampler", str(value.get("type"))) if isinstance(value, dict) else None
    adapter: TypeAdapter[SamplerConfig] = TypeAdapter(Annotated[SamplerConfig, Installed("sampler")])
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        problems = explain(error, value if isinstance(value, dict) else {}, known or SamplerConfig)
        raise ConfigError(f"--sampler {text}: {'; '.join(problems)}") from None


def _picture(x: np.ndarray) -> bytes:
    images = x if x.ndim == 4 else x[:, None]
    # Values outside [0, 1] occur with real data only, and have no natural black and white.
    low, high = min(0.0, float(images.min())), max(1.0, float(images.max()))
    return png(strip(pixels(images, low, high), columns=math.ceil(math.sqrt(len(images)))))


def _arrays(x: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=x)
    return buffer.getvalue()
