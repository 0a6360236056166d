"""Train runs that differ in their seeds at once: their weights in one stack, every step one batched computation.

Small networks spend their time in the calls of operations, not in the operations. A stack of ten seeds makes as many
calls as one of them. Each seed keeps what the trainer would give it: its own initial weights, its own batches in its
own order, learning-rate schedule, early stopping and best weights. Only the noise comes from one generator for all, so
the numbers are those of the trainer in distribution, not digit by digit.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from uncollapse import Batch, Pipeline, Progress
from uncollapse.config.pipeline import schedules_in
from uncollapse.evaluation import evaluate
from uncollapse.pipeline import Built
from uncollapse.training import Criterion
from uncollapse.training.state import TrainingState

VALIDATION_CHUNK = 2000


@dataclass
class Outcome:
    """What became of one seed.

    Args:
        results: As ``results.json`` of a run.
        epochs: Epochs trained.
        best_epoch: Epochs after which the kept weights were reached.
        validation_loss: Theirs, nats.
    """

    results: dict[str, Any]
    epochs: int
    best_epoch: int
    validation_loss: float


class _Stack(nn.Module):
    """The criterion of many runs: parameters and batches lead with the run, ``[R, ...]``."""

    def __init__(self, builts: Sequence[Built]) -> None:
        super().__init__()
        criteria = [Criterion(b.model, b.objective, b.regularizers) for b in builts]
        stacked, self.side = stack_module_state(criteria)
        self.names = list(stacked)
        self.weights = nn.ParameterList(t.detach().clone() for t in stacked.values())
        # Without weights of its own; functional_call brings those of the run.
        self.template = copy.deepcopy(criteria[0])

    def forward(self, x: Tensor, progress: Progress) -> Tensor:
        """Return the loss of every run, ``[R]``, on its own batch ``x [R, B, *X]``."""

        def one(weights: dict[str, Tensor], side: dict[str, Tensor], x: Tensor) -> Tensor:
            outcome = functional_call(self.template, (weights, side), (Batch(x), progress))
            return outcome.total

        weights = dict(zip(self.names, self.weights, strict=True))
        losses: Tensor = vmap(one, randomness="different")(weights, self.side, x)
        return losses

    def load_into(self, module: Criterion, weights: Sequence[Tensor]) -> None:
        """Give one run's criterion the weights kept for it."""
        with torch.no_grad():
            own = dict(module.named_parameters())
            for name, value in zip(self.names, weights, strict=True):
                own[name].copy_(value)


def train_together(pipelines: Sequence[Pipeline], *, quiet: bool = False) -> list[Outcome]:
    """Train pipelines that differ in ``seed`` only, on the CPU, and measure each as its ``evaluation`` says."""
    config = pipelines[0].config
    builts = [p.build() for p in pipelines]
    stack = _Stack(builts)
    training, runs = config.training, range(len(builts))
    optimizer = training.optimizer.build(list(stack.weights))
    rate = optimizer.param_groups[0]["lr"]
    factor = None if training.learning_rate is None else training.learning_rate.build(builts[0].context)
    per_epoch = builts[0].context.steps_per_epoch
    settled = max((s.epochs() for _, s in schedules_in(config)), default=0.0)
    states = [TrainingState() for _ in runs]
    kept: list[tuple[int, list[Tensor]]] = [(0, []) for _ in runs]
    validation = torch.stack([torch.cat([b.x for b in built.data.validation.batches(1000)]) for built in builts])
    torch.manual_seed(config.seed)
    step, begin = 0, time.perf_counter()
    for epoch in range(1, training.epochs + 1):
        stack.train()
        batches = [
            b.data.train.batches(config.data.batch_size, epoch=epoch - 1, shuffle=True, drop_last=True) for b in builts
        ]
        for parts in zip(*batches, strict=True):
            if factor is not None:
                optimizer.param_groups[0]["lr"] = rate * factor(step)
            optimizer.zero_grad()
            losses = stack(torch.stack([p.x for p in parts]), Progress(step, per_epoch))
            # Gradients of different runs do not meet, so the sum steps each as its own loss would.
            losses.sum().backward()
            optimizer.step()
            step += 1
        values = _validate(stack, validation, config.seed)
        for i in runs:
            state = states[i]
            if state.is_over(training.epochs, training.early_stopping):
                continue
            state.epoch = epoch
            if state.judge(values[i], training.early_stopping, settled=epoch >= settled):
                kept[i] = (epoch, [w[i].detach().clone() for w in stack.weights])
        if not quiet and (epoch % 10 == 0 or epoch == training.epochs):
            seconds = time.perf_counter() - begin
            print(f"  epoch {epoch}, {seconds:.0f} s, validation {min(values):.3f} to {max(values):.3f}", flush=True)
        if all(state.is_over(training.epochs, training.early_stopping) for state in states):
            break
    outcomes = []
    for i, (built, pipeline, (best_epoch, weights)) in enumerate(zip(builts, pipelines, kept, strict=True)):
        stack.load_into(Criterion(built.model, built.objective, built.regularizers), weights)
        results = evaluate(built, pipeline.config.evaluation, pipeline.config.seed)
        best = states[i].best
        assert best is not None
        outcomes.append(Outcome(results, states[i].epoch, best_epoch, best))
    return outcomes


def _validate(stack: _Stack, x: Tensor, seed: int) -> list[float]:
    """Return every run's loss over its validation set ``x [R, N, *X]``, with the same noise each time."""
    stack.eval()
    total = torch.zeros(len(x), dtype=torch.float64)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for chunk in x.split(VALIDATION_CHUNK, dim=1):
            total += stack(chunk, Progress(final=True)).double() * chunk.shape[1]
    found: list[float] = (total / x.shape[1]).tolist()
    return found
