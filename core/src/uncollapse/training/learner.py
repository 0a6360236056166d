"""Everything that learns in a run, and what one step does to it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..building import Built
from ..capabilities import supports
from ..config.pipeline import PipelineConfig
from ..errors import CheckpointError, ConfigError
from ..protocols import Batch, Feedback, JudgesEpochs, Outcome, Progress, Reaction, Stored, Strategy, mixed
from ..randomness import random_state, restore_random_state, seed_everything, separate_stream
from .averaging import PolyakAverage
from .checkpoint import Checkpoint, load_weights
from .companions import Companions, build_observers
from .criterion import Criterion
from .random_batches import RandomBatches

__all__ = ["Learner"]


class Learner:
    """Criterion, optimizer, learning rate, averaged weights and companions on one device.

    To a strategy it is a :class:`~uncollapse.protocols.Learning`.

    Args:
        config: The pipeline.
        built: Its objects; moved to the accelerator's device.
        accelerator: Device, processes and precision.
        initialize: Let parts set parameters from data, as a new run does; a resumed one loads them.
    """

    def __init__(
        self, config: PipelineConfig, built: Built, accelerator: Accelerator, *, initialize: bool = True
    ) -> None:
        training, device = config.training, accelerator.device
        self._accelerator, self._clip, self._seed = accelerator, training.gradient_clip, config.seed
        self._bare = Criterion(built.model, built.objective, built.regularizers).to(device)
        self.model = built.model
        if initialize:
            # The same stream on every process: all must start from the same weights.
            seed_everything(config.seed, stream=0)
            count = min(training.initialize_examples, len(built.data.train))
            first = next(iter(mixed(built.data.train).batches(count, shuffle=True, device=device)))
            self._bare.train()
            train = built.data.train
            stored = partial(train.stored, device=device) if supports(train, Stored) else None
            built.model.initialize(first.x, stored)
        observers = build_observers(training.observers, built.context, device)
        adversaries = self._bare.adversaries()
        self._companions = Companions(adversaries, observers, accelerator.autocast, accelerator.num_processes)
        self._trainable = self._bare.trainable()
        self.optimizer = training.optimizer.build(self._trainable)
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        schedule = training.learning_rate
        self._factor: Callable[[int], float] | None = None if schedule is None else schedule.build(built.context)
        self._strategy: Strategy | None = None
        if training.strategy is not None:
            self._strategy = training.strategy.build(built.context)
            self._random = RandomBatches(
                built.data.train, config.data.batch_size, accelerator.process_index, accelerator.num_processes, device
            )
            if supports(self._strategy, JudgesEpochs) and not len(built.data.validation):
                raise ConfigError(
                    f"training.strategy: {training.strategy.type!r} decides by the validation split, which is empty; "
                    "give the data one (data.validation), or leave the strategy out"
                )
        self.average = None if training.polyak is None else PolyakAverage(built.model, training.polyak)
        if training.compile:
            self._bare.compile()
        self._criterion: nn.Module = accelerator.prepare_model(self._bare)
        seed_everything(config.seed, stream=1 + accelerator.process_index)

    @property
    def rate(self) -> float:
        """Learning rate of the latest step."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Everything that the optimizer steps."""
        return self._trainable

    def train(self) -> None:
        """Enter training mode."""
        self._bare.train()

    def step(self, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Mapping[str, float]]:
        """Step everything once on this process's share of a batch, and return its terms and the schedules' values.

        The pass itself is not returned: its tensors would be alive while the next step needs room for its own.
        """
        if self._factor is not None:
            factor = self._factor(progress.step)
            for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
                group["lr"] = rate * factor
        if self._strategy is None:
            outcome = self.loss(batch, progress)
            self.descend(outcome.total)
        else:
            outcome = self._strategy(self, batch, progress)
        if self.average is not None:
            self.average.update()
        if self._companions:
            outcome.terms.update(self._companions.step(outcome.inference, batch, progress, outcome.weights))
        return outcome.terms, outcome.weights

    def loss(self, batch: Batch, progress: Progress) -> Outcome:
        """Return objective and penalties of this process's share of a batch."""
        # What zero_grad does, without the profiler's record that it opens each time. Before the pass, which needs room.
        for parameter in self._trainable:
            parameter.grad = None
        outcome: Outcome = self._criterion(batch, progress)
        return outcome

    def descend(self, total: Tensor, only: Collection[nn.Parameter] | None = None) -> None:
        """Differentiate ``total``, clip the gradient of all parameters, and step the optimizer on ``only`` or all."""
        # No loss scaling in float32 and bfloat16, so nothing that the accelerator would add.
        total.backward()
        if self._clip is not None:
            nn.utils.clip_grad_norm_(self._trainable, self._clip)
        if only is not None:
            chosen = {id(parameter) for parameter in only}
            for parameter in self._trainable:
                if id(parameter) not in chosen:
                    parameter.grad = None
        self.optimizer.step()

    def random_batch(self) -> Batch:
        """Return this process's share of a random batch of training data, for strategies."""
        return self._random.next()

    def mean_over_processes(self, value: Tensor) -> Tensor:
        """Return the mean of a scalar over all processes."""
        if self._accelerator.num_processes == 1:
            return value
        total = value.detach().clone()
        torch.distributed.all_reduce(total)
        mean: Tensor = total / self._accelerator.num_processes
        return mean

    def epoch_ended(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Let a strategy that asks for it judge the model after an epoch.

        Args:
            batches: Starts a fresh pass over the validation split, the same on every process.
        """
        strategy: object = self._strategy
        if supports(strategy, JudgesEpochs):
            # The same noise on every process, and after every epoch.
            with self.evaluating(), separate_stream(self._seed, self._accelerator.device):
                strategy.epoch_ended(self.model, batches)

    @contextmanager
    def evaluating(self) -> Iterator[Criterion]:
        """Give the criterion in evaluation mode, without gradients, with averaged weights if there are any."""
        self._bare.eval()
        try:
            with torch.no_grad():
                if self.average is None:
                    yield self._bare
                else:
                    with self.average.swapped_in():
                        yield self._bare
        finally:
            self._bare.train()

    def validated(self, value: float, step: int, best: Callable[[], Checkpoint]) -> bool:
        """Let the learning rate react to a validation, and return whether it ends the run.

        Args:
            value: Monitored value, lower is better.
            step: Optimizer steps done.
            best: Opens the best checkpoint, whose weights the schedule may want back.
        """
        reaction = self._factor.validated(value, step) if supports(self._factor, Feedback) else Reaction()
        if reaction.reload_best and not reaction.stop:
            self._load_model(best())
        if reaction.reset_optimizer:
            self.optimizer.state.clear()
        return reaction.stop

    def non_finite(self) -> list[str]:
        """Return the names of trainable parameters that hold NaN or infinity."""
        largest = torch.stack(torch._foreach_norm([p.detach() for p in self._trainable], float("inf")))
        if bool(largest.isfinite().all()):
            return []
        names = {id(p): name for name, p in self._bare.named_parameters()}
        finite = largest.isfinite().tolist()
        return [names[id(p)] for p, fine in zip(self._trainable, finite, strict=True) if not fine]

    def weights(self) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Return the model's state dict, and the same with averaged weights, or None."""
        plain = self.model.state_dict()
        return plain, None if self.average is None else self.average.merged_into(plain)

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the model's weights, random generators of every process included."""
        processes = self._accelerator.num_processes
        generators = [random_state(self._accelerator.device)]
        if processes > 1:
            mine, generators = generators[0], [{} for _ in range(processes)]
            torch.distributed.all_gather_object(generators, mine)
        return {
            "optimizer": self.optimizer.state_dict(),
            "learning_rate": self._factor.state_dict() if supports(self._factor, Feedback) else {},
            "companions": self._companions.state_dict(),
            "criterion": self._bare.side_state(),
            "strategy": self._strategy_state(),
            "generators": generators,
        }

    def load(self, checkpoint: Checkpoint, saved: Mapping[str, Any], step: int) -> None:
        """Restore everything; random generators last, so that the next step draws what it would have drawn.

        Args:
            checkpoint: Where the weights are.
            saved: What :meth:`state_dict` returned.
            step: Optimizer steps done.

        Raises:
            CheckpointError: Weights are damaged, or from another pipeline.
            KeyError, TypeError, ValueError, RuntimeError: ``saved`` does not fit.
        """
        self._load_model(checkpoint)
        self._bare.load_side_state(saved["criterion"])
        # Which kernels exist depends on today's device, not on the one that wrote the checkpoint.
        kernels = [{str(k): v for k, v in g.items() if k in ("fused", "foreach")} for g in self.optimizer.param_groups]
        self.optimizer.load_state_dict(saved["optimizer"])
        for group, ours in zip(self.optimizer.param_groups, kernels, strict=True):
            group.update(ours)
        if supports(self._factor, Feedback):
            self._factor.load_state_dict(saved["learning_rate"])
        self._companions.load_state_dict(saved["companions"])
        if self._strategy is not None:
            self._strategy.load_state_dict(saved["strategy"]["own"])
            self._random.load_state_dict(saved["strategy"]["random_batches"])
        index, generators = self._accelerator.process_index, saved["generators"]
        if len(generators) == self._accelerator.num_processes:
            restore_random_state(generators[index], self._accelerator.device)
        else:
            # Other processes, other shares: nothing to continue bit for bit, but no noise may come twice.
            seed_everything(self._seed, stream=1_000_000 + step * self._accelerator.num_processes + index)

    def _strategy_state(self) -> dict[str, Any]:
        if self._strategy is None:
            return {}
        return {"own": dict(self._strategy.state_dict()), "random_batches": self._random.state_dict()}

    def _load_model(self, checkpoint: Checkpoint) -> None:
        load_weights(self.model, checkpoint.weights(), str(checkpoint.path))
        if self.average is not None:
            averaged = checkpoint.weights(averaged=True)
            missing = [name for name in self.average.averages() if name not in averaged]
            if missing:
                raise CheckpointError(f"{checkpoint.path}: the averaged weights lack {missing[0]}")
            self.average.load(averaged)
