"""Draws from a trained run, as a picture or as numbers."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import yaml
from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from ..config.component import Installed, SamplerConfig
from ..config.explain import explain
from ..errors import ConfigError
from ..files import write_atomically
from ..plugins import registry
from ..report.images import is_image, pixels, png, strip
from ..training.run import Run
from .runs import load_run

__all__ = ["sample"]

_SUFFIXES = (".png", ".npz")


def sample(path: Path, count: int, output: Path | None, sampler: str, seed: int, which: Any, device: str) -> None:
    """Draw ``count`` samples from a run and write them.

    Raises:
        ConfigError: The sampler or the format is unknown, or the data are no images.
    """
    if output is not None and output.suffix.lower() not in _SUFFIXES:
        raise ConfigError(f"--output {output}: expected a name that ends in .png or .npz, found {output.suffix!r}")
    config = _sampler(sampler)
    run = Run(path)
    built = load_run(run, which, device)
    spec = built.data.spec
    if output is None:
        output = path / ("samples.png" if is_image(spec) else "samples.npz")
    as_picture = output.suffix.lower() == ".png"
    if as_picture and not is_image(spec):
        raise ConfigError(
            f"--output {output}: the run's data have shape {spec.event_shape} and support {spec.support!r}, which "
            "is no picture; use a name that ends in .npz"
        )
    torch.manual_seed(seed)
    with torch.no_grad():
        x = config.build(built.context)(built.model, count).float().cpu().numpy()
    write_atomically(output, _picture(x) if as_picture else _arrays(x))
    Console(highlight=False).print(f"{count} samples are in {output}", soft_wrap=True)


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
