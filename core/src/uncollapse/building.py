"""From a pipeline to its objects: parts that fit together, tried on real data before anything is trained."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed

from .component import BuildContext
from .config import PipelineConfig
from .errors import ConfigError, ShapeError, UncollapseError
from .initialization import he_normal
from .model import LatentVariableModel
from .protocols import DataSource, Objective, Progress, Regularizer, Split, count_batches, mixed
from .randomness import separate_stream

__all__ = ["Built", "build", "steps_per_epoch"]


@dataclass(frozen=True)
class Built:
    """The objects that a pipeline describes.

    Args:
        data: Source with its splits.
        context: What the parts were told.
        model: The wired model.
        objective: What a step minimises.
        regularizers: Penalties by name: the component's type, a second of the same type with ``#2``.
    """

    data: DataSource
    context: BuildContext
    model: LatentVariableModel
    objective: Objective
    regularizers: dict[str, Regularizer]


def build(config: PipelineConfig, artifacts: Path | None = None) -> Built:
    """Build every object of a pipeline, seeded by its seed, and try the whole on two examples.

    Args:
        config: The pipeline.
        artifacts: Folder of what the data source of a run gave it to keep; None for a new run.

    Raises:
        ConfigError: Parts that cannot go together.
        ShapeError: Shapes that do not fit; the message names the part.
        DataError: Data missing, outside the likelihood's support, or not those of the run.
    """
    set_seed(config.seed)
    data = config.data.build(config.seed) if artifacts is None else config.data.rebuild(config.seed, artifacts)
    _check_support(config, data)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    steps, _ = steps_per_epoch(data.train, config.data.batch_size, config.training.drop_last, processes)
    context = BuildContext(
        data=data.spec,
        latent_shape=config.model.posterior.latent_shape,
        latent_levels=config.model.posterior.latent_levels,
        steps_per_epoch=steps,
        epochs=config.training.epochs,
        label_names=tuple(getattr(data, "label_names", ())),
    )
    encoder = _built("model.encoder", lambda: config.model.encoder.build(context))
    context = replace(context, feature_shape=tuple(encoder.feature_shape))
    posterior = _built("model.posterior", lambda: config.model.posterior.build(context))
    prior = _built("model.prior", lambda: config.model.prior.build(context))
    decoder = _built("model.decoder", lambda: config.model.decoder.build(context))
    if config.model.initialization == "he_normal":
        for part in (encoder, posterior, decoder):
            he_normal(part)
    built = Built(
        data=data,
        context=context,
        model=LatentVariableModel(encoder, posterior, prior, decoder),
        objective=_built("objective", lambda: config.objective.build(context)),
        regularizers=_named((r.type, r.build(context)) for r in config.regularizers),
    )
    with separate_stream(None, torch.device("cpu")):
        _try_out(built, min(2, len(data.train)))
    return built


def steps_per_epoch(train: Split, batch_size: int, drop_last: bool, processes: int = 1) -> tuple[int, bool]:
    """Return the optimizer steps of one epoch, and whether short batches are left out.

    They are not where no batch is full: a set smaller than one batch makes one step.
    """
    full = count_batches(train, batch_size, drop_last=True, processes=processes)
    if drop_last and full:
        return full, True
    return max(1, count_batches(train, batch_size, processes=processes)), False


def _check_support(config: PipelineConfig, data: DataSource) -> None:
    decoder = config.model.decoder
    if decoder.supports and data.spec.support not in decoder.supports:
        part = getattr(decoder, "likelihood", decoder)
        place = "model.decoder" if part is decoder else "model.decoder.likelihood"
        tokens = "tokens" in (data.spec.support, *decoder.supports)
        fix = "decoder" if tokens else "likelihood, or change how the data are prepared (data.binarize)"
        raise ConfigError(
            f"{place}: {part.type!r} models data whose support is {' or '.join(sorted(decoder.supports))}, but "
            f"data {config.data.type!r} are {data.spec.support}; choose another {fix}"
        )


def _built(place: str, build: Any) -> Any:
    try:
        return build()
    except UncollapseError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ConfigError(f"{place}: cannot be built: {error}") from error


def _named(pairs: Iterable[tuple[str, Regularizer]]) -> dict[str, Regularizer]:
    named: dict[str, Regularizer] = {}
    for name, regularizer in pairs:
        same = sum(n.partition("#")[0] == name for n in named)
        named[name if not same else f"{name}#{same + 1}"] = regularizer
    return named


def _try_out(built: Built, examples: int) -> None:
    """Run every part once on real data, so that what does not fit is found before training starts."""
    model, spec = built.model, built.data.spec
    batch = next(iter(mixed(built.data.train).batches(examples)))
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            h = _fits("model.encoder", f"data of shape {spec.event_shape}", lambda: model.encoder(batch.x))
            q = _fits("model.posterior", f"features of shape {tuple(h.shape[1:])}", lambda: model.posterior(h))
            p_z = _fits("model.prior", f"latents of shape {model.latent_shape}", model.p_z)
            if tuple(p_z.event_shape) != tuple(q.event_shape):
                raise ShapeError(
                    f"model.prior: its latents have shape {tuple(p_z.event_shape)}, the posterior's "
                    f"{tuple(q.event_shape)}; both must agree"
                )
            z = q.sample()
            p_x = _fits("model.decoder", f"latents of shape {tuple(z.shape[1:])}", lambda: model.generate(z))
            if tuple(p_x.event_shape) != spec.event_shape:
                raise ShapeError(
                    f"model.decoder: it generates data of shape {tuple(p_x.event_shape)}, but the data have shape "
                    f"{spec.event_shape}"
                )
            log_p_x = _fits("model.decoder", f"data of shape {spec.event_shape}", lambda: p_x.log_prob(batch.x))
            if spec.special is not None and batch.x.shape[1] < spec.event_shape[0]:
                wider = torch.nn.functional.pad(batch.x, (0, 1), value=spec.special.padding)
                _same("model.encoder", "features", h, model.encoder(wider))
                _same("model.decoder", "log densities", log_p_x, p_x.log_prob(wider))
        loss = _fits("objective", "this model", lambda: built.objective(model, batch, Progress()))
        if len(batch) > 1:
            for i, (name, regularizer) in enumerate(built.regularizers.items()):
                _fits(f"regularizers.{i} ({name})", "this model", lambda r=regularizer: r(loss.inference))
    finally:
        model.train(was_training)


def _same(place: str, what: str, found: torch.Tensor, padded: torch.Tensor) -> None:
    if not torch.allclose(found, padded, rtol=1e-3, atol=1e-4):
        raise ShapeError(
            f"{place}: its {what} change when a text is filled up with padding (by up to "
            f"{float((found - padded).abs().max()):.2g}), so that they would depend on the other texts of the batch; "
            "leave out what equals the data's special.padding"
        )


def _fits(place: str, given: str, call: Any) -> Any:
    try:
        return call()
    except UncollapseError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise ShapeError(f"{place}: does not fit {given}: {str(error).splitlines()[0]}") from error
