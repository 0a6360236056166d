"""Measure a trained model: what a pipeline's ``evaluation`` section asks for, as ``results.json`` holds it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributions import Distribution

from .building import Built
from .capabilities import supports
from .config import EvaluationConfig
from .distributions import DiagonalNormal
from .errors import ConfigError, ShapeError, did_you_mean
from .model import LatentVariableModel
from .passes import AT_END, device_of, exact_gaussian, measuring, posterior_mean
from .protocols import Batch, Estimate, NeedsTrainingData, Split, joined, mixed
from .randomness import separate_stream

__all__ = ["check_evaluation", "encode", "evaluate"]

_MEAN_SAMPLES = 64


def encode(
    model: LatentVariableModel,
    split: Split,
    batch_size: int = 256,
    samples: int = 0,
    examples: int | None = None,
    codes: str = "mean",
) -> tuple[Tensor, Tensor | None]:
    """Return a code for every example of a split.

    Args:
        model: The trained model; it is put into evaluation mode for the pass.
        split: Where the examples come from; they keep its order.
        batch_size: Examples of one pass.
        samples: Posterior samples averaged into a code (MAE's released code uses 50); 0 for the posterior's mean,
            which for a posterior without one in closed form (a flow) is an average of 64 samples.
        examples: Only the first examples; None for all.
        codes: ``mean``, or what the posterior's distribution lists in ``codes``: a method that returns ``[B, K]``; of a
            Gaussian, which lists none, its mean.

    Returns:
        Codes ``[N, D]`` on the CPU, latents of other shapes flattened, and labels ``[N]``, None where there are none.

    Raises:
        ConfigError: The posterior has no such codes.
    """
    found: list[Tensor] = []
    labels: list[Tensor | None] = []
    with measuring(model):
        for batch in _batches(split, batch_size, examples, device_of(model)):
            q = model.infer(batch.x, AT_END)
            if codes != "mean":
                code = _own_codes(q, codes)
            elif samples:
                code = q.sample(torch.Size((samples,))).mean(0)
            else:
                code = posterior_mean(q, _MEAN_SAMPLES)[0]
            found.append(code.flatten(1).cpu())
            labels.append(None if batch.labels is None else batch.labels.cpu())
    known = [n for n in labels if n is not None]
    return torch.cat(found), torch.cat(known) if len(known) == len(labels) else None


def check_evaluation(built: Built, config: EvaluationConfig) -> None:
    """Find what would stop :func:`evaluate`, before hours of training are spent.

    Raises:
        ConfigError: There are probes and the data have no labels, or they would be scored on the split that they
            learn on, or the posterior has no such codes; or a component cannot be built for these data.
    """
    if config.probes and built.data.spec.classes is None:
        raise ConfigError(
            f"evaluation.probes: found {', '.join(p.type for p in config.probes)}, but the data have no labels; "
            "remove the probes or choose data with labels"
        )
    if config.probes and config.split == "train":
        raise ConfigError(
            "evaluation.split: found train, where the probes learn, so that their scores would measure memory; "
            "choose validation or test, or remove the probes"
        )
    if config.probes and config.codes != "mean":
        encode(built.model, built.data.train, 2, examples=2, codes=config.codes)
    for estimator in config.estimators:
        estimator.build(built.context)
    for probe in config.probes:
        probe.build(built.context)


def evaluate(built: Built, config: EvaluationConfig, seed: int) -> dict[str, Any]:
    """Return what the pipeline's ``evaluation`` section asks for, ready to be written as JSON.

    Every estimator starts from the same random state, so that a number does not depend on which others are asked
    for; the global random state is left as it was. Probes learn on codes of the whole training split and are scored
    on the evaluated one. A number that is not finite is null, and its note says what it was. An estimator or probe
    that does not apply to this model is left out, and ``skipped`` says why.

    Args:
        built: Data, context and trained model.
        config: What to measure.
        seed: Of the estimators' draws.

    Returns:
        ``latent_dim``, ``split``, ``examples``, ``classes``; ``estimates`` and ``probes`` by name, each with
        ``value, unit, standard_error, count, per_dimension, note``; ``skipped``: reasons by type name.

    Raises:
        ConfigError: What :func:`check_evaluation` finds.
    """
    check_evaluation(built, config)
    model = built.model
    split: Split = getattr(built.data, config.split)
    device = device_of(model)
    estimates: dict[str, Any] = {}
    probes: dict[str, Any] = {}
    skipped: dict[str, str] = {}

    def batches() -> Iterator[Batch]:
        return _batches(split, config.batch_size, config.examples, device)

    with separate_stream(None, device):
        for estimator in config.estimators:
            torch.manual_seed(seed)
            try:
                measure = estimator.build(built.context)
                if supports(measure, NeedsTrainingData):
                    measure.prepare(lambda: _batches(built.data.train, config.batch_size, None, device))
                _add(estimates, measure(model, batches))
            except (ConfigError, ShapeError) as reason:
                skipped[estimator.type] = str(reason)
        if config.probes:
            torch.manual_seed(seed)
            how = partial(encode, batch_size=config.batch_size, samples=config.code_samples, codes=config.codes)
            train = _labelled(how(model, built.data.train), "train")
            test = _labelled(how(model, split, examples=config.examples), config.split)
            for probe in config.probes:
                try:
                    _add(probes, probe.build(built.context)(*train, *test))
                except ConfigError as reason:
                    skipped[probe.type] = str(reason)
    return {
        "latent_dim": math.prod(model.latent_shape),
        "split": config.split,
        "examples": len(split) if config.examples is None else min(config.examples, len(split)),
        "classes": built.data.spec.classes,
        "estimates": estimates,
        "probes": probes,
        "skipped": skipped,
    }


def _own_codes(q: Distribution, name: str) -> Tensor:
    known, gaussian = getattr(q, "codes", ()), exact_gaussian(q)
    if name not in known and gaussian is None:
        allowed = f"{did_you_mean(name, known)}; allowed: {', '.join(['mean', *known])}"
        raise ConfigError(f"evaluation.codes: the posterior, {type(q).__name__}, has no codes {name!r}{allowed}")
    return getattr(q, name)() if name in known else cast(DiagonalNormal, gaussian).mean


def _batches(*asked: Any) -> Iterator[Batch]:
    return joined(_cut(*asked), asked[0].spec)


def _cut(split: Split, batch_size: int, examples: int | None, device: torch.device) -> Iterator[Batch]:
    left = len(split) if examples is None else examples
    # In random order, the same for the same seed, so that the first examples are a sample of the whole split.
    for batch in mixed(split).batches(batch_size, shuffle=True, device=device):
        if left < len(batch):
            labels = None if batch.labels is None else batch.labels[:left]
            batch = Batch(batch.x[:left], labels, None if batch.mask is None else batch.mask[:left])
        if len(batch):
            yield batch
        left -= len(batch)
        if left <= 0:
            return


def _labelled(encoded: tuple[Tensor, Tensor | None], split: str) -> tuple[Tensor, Tensor]:
    codes, labels = encoded
    if labels is None:
        raise ConfigError(
            f"evaluation.probes: the {split} split has no labels; remove the probes or choose data with labels"
        )
    return codes, labels


def _add(results: dict[str, Any], found: Mapping[str, Estimate]) -> None:
    for name, estimate in found.items():
        again, key = 1, name
        while key in results:
            again += 1
            key = f"{name}#{again}"
        record = asdict(estimate)
        if not math.isfinite(estimate.value):
            record["value"] = None
            record["note"] = "; ".join(n for n in (f"not finite: {estimate.value}", estimate.note) if n)
        error = estimate.standard_error
        record["standard_error"] = error if error is not None and math.isfinite(error) else None
        for name in ("per_dimension", "per_dimension_error"):
            each = record[name]
            record[name] = None if each is None else [v if math.isfinite(v) else None for v in each]
        results[key] = record
