"""A tiny pipeline for tests of training, importable by the processes that they start."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from uncollapse.config import BuildContext, DataConfig, StrategyConfig
from uncollapse.config.pipeline import ModelConfig, PipelineConfig, TrainingConfig
from uncollapse.decoders.mlp import MLPDecoderConfig
from uncollapse.encoders.mlp import MLPEncoderConfig
from uncollapse.model import LatentVariableModel
from uncollapse.objectives import ELBOConfig
from uncollapse.pipeline import Pipeline
from uncollapse.posteriors.gaussian import GaussianPosteriorConfig
from uncollapse.protocols import Batch, DataSpec, Learning, Outcome, Progress
from uncollapse.training import Run, Trainer

SPEC = DataSpec((1, 4, 4), "binary", classes=2)


class ToySplit:
    """Binary examples whose order and noise follow from the seed and the epoch alone.

    Args:
        size: Number of examples.
        seed: Of data, order and noise.
        poison: Epoch and batch whose data are replaced by NaN.
        on_batch: Called with the number of batches given out so far.
    """

    spec = SPEC

    def __init__(
        self,
        size: int,
        seed: int = 0,
        poison: tuple[int, int] | None = None,
        on_batch: Callable[[int], None] | None = None,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.x = (torch.rand(size, *SPEC.event_shape, generator=generator) < 0.4).float()
        self.labels = torch.randint(2, (size,), generator=generator)
        self.seed, self.poison, self.on_batch, self.given = seed, poison, on_batch, 0

    def __len__(self) -> int:
        return len(self.x)

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
        order = torch.arange(len(self))
        if shuffle:
            order = torch.randperm(len(self), generator=torch.Generator().manual_seed(1000 * self.seed + epoch))
        chunks = [c for c in order.split(batch_size) if not drop_last or len(c) == batch_size]
        for position, chunk in enumerate(chunks[start:], start):
            share = len(chunk) // world_size
            chunk = chunk[rank * share : (rank + 1) * share]
            x = self.x[chunk]
            if shuffle and self.poison == (epoch, position):
                x = torch.full_like(x, float("nan"))
            self.given += 1
            if self.on_batch is not None:
                self.on_batch(self.given)
            yield Batch(x.to(device), self.labels[chunk].to(device))


class ToySource:
    spec = SPEC

    def __init__(self, size: int = 64, validation: int = 20, **train: Any) -> None:
        self.train = ToySplit(size, seed=1, **train)
        self.validation = ToySplit(validation, seed=2)
        self.test = ToySplit(20, seed=3)


class ToyDataConfig(DataConfig):
    """Random bits, for tests."""

    type: Literal["toy"] = "toy"
    size: int = 64
    validation: int = 20
    batch_size: int = 8

    def build(self, seed: int) -> ToySource:
        return ToySource(self.size, self.validation)


def toy_config(
    *, data: dict[str, Any] | None = None, seed: int = 0, objective: Any = None, regularizers: Any = (), **training: Any
) -> PipelineConfig:
    """Return a pipeline: 8 steps an epoch, a two-layer model, logging every 3 steps."""
    training = {"epochs": 2, "device": "cpu", "log_every": 3, **training}
    return PipelineConfig(
        name="toy",
        seed=seed,
        data=ToyDataConfig(**(data or {})),
        model=ModelConfig(
            encoder=MLPEncoderConfig(hidden=(8,)),
            posterior=GaussianPosteriorConfig(latent_dim=2),
            decoder=MLPDecoderConfig(hidden=(8,)),
        ),
        objective=objective or ELBOConfig(),
        regularizers=regularizers,
        training=TrainingConfig(**training),
    )


def toy_trainer(
    path: Path | str,
    config: PipelineConfig,
    source: ToySource | None = None,
    change: Callable[[Any], None] | None = None,
) -> Trainer:
    """Return a quiet trainer that writes to ``path``; ``source`` replaces the data, ``change`` edits the model."""
    built = Pipeline(config).build()
    if source is not None:
        built = replace(built, data=source)
    if change is not None:
        change(built)
    return Trainer(config, built, Run(path), quiet=True)


class Alternating:
    """Some steps of the inference network on random batches before each joint step, until the codes have spread.

    Args:
        inner: Such steps at most; fewer where the loss of all processes together is below 10.9 nats.
    """

    def __init__(self, inner: int) -> None:
        self.inner, self.active, self.spreads = inner, True, []

    def __call__(self, learning: Learning, batch: Batch, progress: Progress) -> Outcome:
        taken = 0
        inference_network = [*learning.model.encoder.parameters(), *learning.model.posterior.parameters()]
        while self.active and taken < self.inner:
            outcome = learning.loss(learning.random_batch(), progress)
            learning.descend(outcome.total, only=inference_network)
            taken += 1
            if learning.mean_over_processes(outcome.terms["loss"]).item() < 10.9:
                break
        outcome = learning.loss(batch, progress)
        learning.descend(outcome.total)
        outcome.terms["inner_steps"] = torch.tensor(float(taken))
        return outcome

    def epoch_ended(self, model: LatentVariableModel, batches: Callable[[], Iterable[Batch]]) -> None:
        self.spreads.append(torch.cat([model.infer(b.x).mean for b in batches()]).var().item())
        self.active = self.active and len(self.spreads) < 2

    def state_dict(self) -> dict[str, Any]:
        return {"active": self.active, "spreads": list(self.spreads)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.active, self.spreads = state["active"], list(state["spreads"])


class AlternatingConfig(StrategyConfig):
    """Alternating steps, for tests."""

    type: Literal["toy_alternating"] = "toy_alternating"
    inner: int = 3

    def build(self, context: BuildContext) -> Alternating:
        return Alternating(self.inner)
