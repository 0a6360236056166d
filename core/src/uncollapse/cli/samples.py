"""Draws from a trained run, in the formats that are installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
import yaml
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from torch import Tensor

from ..capabilities import supports
from ..config.explain import explain
from ..config.installed import Installed
from ..errors import ConfigError
from ..files import write_atomically
from ..kinds import SamplerConfig
from ..pipeline import Built
from ..plugins import SampleFormat, registry
from ..protocols import NeedsTrainingData, ReportsProgress, Sampler, mixed
from ..training.run import Run
from .runs import load_run

__all__ = ["sample"]

_BATCH = 256
_HOOK = "uncollapse_sample_formats"


def sample(path: Path, count: int, output: Path | None, sampler: str, seed: int, which: Any, device: str) -> None:
    """Draw ``count`` samples from a run and write them; what their format previews is printed, too.

    Raises:
        ConfigError: The sampler or the format is unknown, or the format does not fit the run's data.
    """
    formats = sorted((f for _, f in registry().contributions(_HOOK, SampleFormat)[0]), key=lambda f: f.rank)
    known = list(dict.fromkeys(f.suffix for f in formats))
    if output is not None and output.suffix.lower() not in known:
        allowed = " or ".join(filter(None, [", ".join(known[:-1]), known[-1]]))
        raise ConfigError(f"--output {output}: expected a name that ends in {allowed}, found {output.suffix!r}")
    config = _sampler(sampler)
    run = Run(path)
    built = load_run(run, which, device)
    fitting = [f for f in formats if f.fits(built.data)]
    output = output or path / f"samples{fitting[0].suffix}"
    suffix = output.suffix.lower()
    written = next((f for f in fitting if f.suffix == suffix), None)
    if written is None:
        spec = built.data.spec
        content = next(f.content for f in formats if f.suffix == suffix)
        raise ConfigError(
            f"--output {output}: the run's data have shape {spec.event_shape} and support {spec.support!r}, which "
            f"is no {content}; use a name that ends in {' or '.join(dict.fromkeys(f.suffix for f in fitting))}"
        )
    torch.manual_seed(seed)
    x = _drawn(config, built, count).cpu()
    write_atomically(output, written.encode(x, built.data))
    console = Console(highlight=False)
    if written.preview is not None:
        console.print(written.preview(x, built.data), soft_wrap=True, markup=False)
    console.print(f"{count} samples are in {output}", soft_wrap=True)


def _drawn(config: SamplerConfig, built: Built, count: int) -> Tensor:
    draw = config.build(built.context)
    if supports(draw, NeedsTrainingData):
        draw.prepare(lambda: mixed(built.data.train).batches(_BATCH, shuffle=True))
    with torch.no_grad(), _watched(draw):
        return draw(built.model, count)


@contextmanager
def _watched(draw: Sampler) -> Iterator[None]:
    """Show on a terminal how far a sampler is, if it reports that."""
    console = Console(stderr=True)
    if not supports(draw, ReportsProgress) or not console.is_terminal:
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
            f"--sampler {text}: not valid YAML; expected a type, or '{{type: ancestral, means: true}}'"
        ) from None
    known = registry().find("sampler", str(value.get("type"))) if isinstance(value, dict) else None
    adapter: TypeAdapter[SamplerConfig] = TypeAdapter(Annotated[SamplerConfig, Installed("sampler")])
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        problems = explain(error, value if isinstance(value, dict) else {}, known or SamplerConfig)
        raise ConfigError(f"--sampler {text}: {'; '.join(problems)}") from None
