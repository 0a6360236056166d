"""Do these parts go together? A pipeline of any parts is validated, trained for two steps, and used."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from pydantic import ValidationError
from torch import Size
from uncollapse.capabilities import supports
from uncollapse.config import ComponentConfig, DataConfig, PipelineConfig
from uncollapse.distributions import DiagonalNormal
from uncollapse.errors import UncollapseError
from uncollapse.evaluation import evaluate
from uncollapse.pipeline import Built, Pipeline
from uncollapse.protocols import Batch, DataSource, DataSpec, Progress, Split
from uncollapse.training import Run, Trainer

from .contexts import examples_of

__all__ = ["Composition", "Parts", "Promises", "compose"]

_EXAMPLES, _BATCH = 8, 4


@dataclass(frozen=True)
class Parts:
    """The parts of a pipeline.

    Args:
        data: What the data look like; examples are made.
        encoder: Config of the encoder.
        posterior: Config of the posterior.
        prior: Config of the prior.
        decoder: Config of the decoder.
        objective: Config of the objective.
        regularizers: Configs of regularizers.
        training: Further fields of the section ``training``.
    """

    data: DataSpec
    encoder: ComponentConfig
    posterior: ComponentConfig
    prior: ComponentConfig
    decoder: ComponentConfig
    objective: ComponentConfig
    regularizers: tuple[ComponentConfig, ...] = ()
    training: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Composition:
    """What became of a pipeline.

    Args:
        works: It was validated, trained, measured, sampled from, saved and loaded.
        reason: Where it was refused before training: the message.
        skipped: Measurements that do not apply to this model, with their reasons.
    """

    works: bool
    reason: str = ""
    skipped: tuple[str, ...] = ()


class Promises(Protocol):
    """A moment transform that says whether posteriors keep what it promises defines ``broken``."""

    def broken(self, q: DiagonalNormal) -> str:
        """Return in what the posteriors of a training batch break the promise; empty where they keep it."""
        ...


def compose(parts: Parts) -> Composition:
    """Validate a pipeline of ``parts``; train it for two steps, measure it, sample from it, save it and load it.

    The posteriors that the objective judges in training must keep what the transforms of their moments promise.

    Returns:
        Whether the parts go together; a pipeline that validation refuses is an answer.

    Raises:
        Exception: Whatever goes wrong after validation: parts that do not go together must be refused before.
    """
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
        try:
            config = _pipeline(parts)
            built = Pipeline(config).build()
        except (UncollapseError, ValidationError) as error:
            return Composition(False, str(error))
        run = Run(Path(folder) / "run")
        trainer = Trainer(config, built, run, quiet=True)
        trainer.fit()
        results = evaluate(built, config.evaluation, config.seed)
        _expect_samples(built)
        _expect_same(built, _loaded(config, run))
        # Last, since a pass in training may change what was saved.
        _expect_promises(built)
        return Composition(True, skipped=tuple(results["skipped"].values()))


def _pipeline(parts: Parts) -> PipelineConfig:
    return PipelineConfig.model_validate(
        {
            "name": "composition",
            "data": _ExamplesConfig(spec=parts.data),
            "model": {part: getattr(parts, part) for part in ("encoder", "posterior", "prior", "decoder")},
            "objective": parts.objective,
            "regularizers": parts.regularizers,
            "training": {"epochs": 1, "device": "cpu", "initialize_examples": _EXAMPLES, **parts.training},
            "evaluation": {
                "estimators": [{"type": "elbo"}, {"type": "nll", "samples": 2}, "mutual_information", "active_units"],
                "batch_size": _BATCH,
            },
        }
    )


class _Examples:
    """Made-up examples of a kind of data; a split of which every part is the same."""

    def __init__(self, spec: DataSpec) -> None:
        self.spec = spec
        self.train: Split = self
        self.validation: Split = self
        self.test: Split = self
        self._x = examples_of(spec, _EXAMPLES)
        self._labels = torch.arange(_EXAMPLES) % spec.classes if spec.classes else None

    def __len__(self) -> int:
        return _EXAMPLES

    def batches(
        self,
        batch_size: int,
        *,
        epoch: int = 0,
        shuffle: bool = False,
        drop_last: bool = False,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
    ) -> Iterator[Batch]:
        for begin in range(start * batch_size, _EXAMPLES, batch_size):
            here = slice(begin, begin + batch_size)
            yield Batch(self._x[here].clone(), None if self._labels is None else self._labels[here])


class _ExamplesConfig(DataConfig):
    """Made-up examples."""

    type: Literal["testing.examples"] = "testing.examples"
    batch_size: int = _BATCH
    spec: DataSpec

    def build(self, seed: int) -> DataSource:
        return _Examples(self.spec)


def _expect_promises(built: Built) -> None:
    """Raise an error where posteriors, as the objective has them in training, break a transform's promise."""
    promising = [m for m in getattr(built.model.posterior, "moments", ()) if supports(m, Promises)]
    if not promising:
        return
    built.model.train()
    batch = next(iter(built.data.train.batches(_BATCH)))
    q = built.objective(built.model, batch, Progress(step=2, total_steps=2)).inference.q
    assert isinstance(q, DiagonalNormal), type(q).__name__
    for transform in promising:
        why = transform.broken(q)
        if why:
            raise AssertionError(f"the posterior breaks what {type(transform).__name__} promises: {why}")


def _expect_samples(built: Built) -> None:
    model, count = built.model.eval(), 3
    with torch.no_grad():
        x = model.generate(model.p_z().sample(Size((count,)))).sample()
    expected = (count, *built.data.spec.event_shape)
    if tuple(x.shape) != expected:
        raise AssertionError(f"samples: expected shape {expected}, found {tuple(x.shape)}")


def _loaded(config: PipelineConfig, run: Run) -> Built:
    again = Pipeline(config).build()
    again.model.load_state_dict(run.checkpoints.open("last").weights(averaged=False))
    return again


def _expect_same(built: Built, again: Built) -> None:
    outputs = []
    for one in (built, again):
        model = one.model.eval()
        x = next(iter(one.data.test.batches(_BATCH))).x
        torch.manual_seed(0)
        with torch.no_grad():
            z = model.infer(x).sample()
            outputs.append((z, model.p_z().log_prob(z), model.generate(z).log_prob(x)))
    for name, here, there in zip(("z", "log p(z)", "log p(x|z)"), *outputs, strict=True):
        if not torch.equal(here, there):
            raise AssertionError(f"{name} changed when the model was saved and loaded")
