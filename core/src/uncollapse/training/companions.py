"""What trains beside the model: opponents of adversarial regularizers, and observers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ..capabilities import supports
from ..component import BuildContext
from ..inference import Inference
from ..kinds import ObserverConfig
from ..protocols import Adversarial, Batch, Observer, Progress, SeesWeights

__all__ = ["Companions", "build_observers", "detached"]


def detached(inference: Inference) -> Inference:
    """Return the inference with every tensor cut from its graph: features, samples, and what distributions hold."""
    return replace(
        inference,
        h=inference.h.detach(),
        z=inference.z.detach(),
        q=_detached_distribution(inference.q),
        p_z=_detached_distribution(inference.p_z),
        p_x=_detached_distribution(inference.p_x),
        known_log_q=None if inference.known_log_q is None else inference.known_log_q.detach(),
    )


def _detached_distribution(distribution: Distribution) -> Distribution:
    twin = copy.copy(distribution)
    for name, value in vars(distribution).items():
        if isinstance(value, Tensor):
            twin.__dict__[name] = value.detach()
        elif isinstance(value, Distribution):
            twin.__dict__[name] = _detached_distribution(value)
    return twin


class Companions:
    """Steps opponents and observers after every step of the model, on the detached inference.

    An opponent has an optimizer of its own, by default Adam (Kingma and Ba, 2015), and takes no part in the model's
    step: its parameters need no gradient there. Under data parallelism its gradients are averaged over processes. An
    observer steps itself, on the first process, on that process's share of the batch.

    Args:
        adversaries: Regularizers with an opponent, by name.
        observers: Observers by name; modules.
        autocast: Context of mixed precision.
        processes: Number of processes.
    """

    def __init__(
        self,
        adversaries: Mapping[str, Adversarial],
        observers: Mapping[str, Observer],
        autocast: Callable[[], AbstractContextManager[Any]],
        processes: int = 1,
    ) -> None:
        self._adversaries, self._autocast, self._processes = dict(adversaries), autocast, processes
        self._parameters = {name: list(a.adversary.parameters()) for name, a in self._adversaries.items()}
        self._optimizers = {name: _optimizer(a, self._parameters[name]) for name, a in self._adversaries.items()}
        watches = processes == 1 or torch.distributed.get_rank() == 0
        self._observers = dict(observers) if watches else {}
        for parameters in self._parameters.values():
            _require_gradients(parameters, False)

    def __bool__(self) -> bool:
        return bool(self._adversaries or self._observers)

    def step(
        self, inference: Inference, batch: Batch, progress: Progress, weights: Mapping[str, float] | None = None
    ) -> dict[str, Tensor]:
        """Step everyone once and return their terms: ``<regularizer>/adversary_loss``, ``<observer>/<term>``.

        Args:
            inference: The pass of the model's step.
            batch: Its batch.
            progress: Where the run stood.
            weights: Values of schedules in that step.
        """
        cut = detached(inference)
        terms: dict[str, Tensor] = {}
        for name, regularizer in self._adversaries.items():
            terms[f"{name}/adversary_loss"] = self._step_adversary(name, regularizer, cut)
        for name, observer in self._observers.items():
            if supports(observer, SeesWeights):
                observer.weights = weights or {}
            for term, value in observer(cut, batch, progress).items():
                terms[f"{name}/{term}"] = value.detach()
        return terms

    def state_dict(self) -> dict[str, Any]:
        """Return the state of opponents' optimizers and of observers (opponents' weights are the criterion's)."""
        return {
            "adversaries": {name: optimizer.state_dict() for name, optimizer in self._optimizers.items()},
            "observers": {name: o.state_dict() for name, o in self._observers.items() if isinstance(o, nn.Module)},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        for name, optimizer in self._optimizers.items():
            optimizer.load_state_dict(state["adversaries"][name])
        for name, observer in self._observers.items():
            if isinstance(observer, nn.Module):
                observer.load_state_dict(state["observers"][name])

    def _step_adversary(self, name: str, regularizer: Adversarial, inference: Inference) -> Tensor:
        parameters = self._parameters[name]
        _require_gradients(parameters, True)
        with self._autocast():
            loss = regularizer.adversary_loss(inference)
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
            if self._processes > 1 and gradient is not None:
                torch.distributed.all_reduce(gradient)
                gradient.div_(self._processes)
        self._optimizers[name].step()
        self._optimizers[name].zero_grad(set_to_none=True)
        _require_gradients(parameters, False)
        return loss.detach()


def _optimizer(regularizer: Adversarial, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    build: Callable[[list[nn.Parameter]], torch.optim.Optimizer] | None
    build = getattr(regularizer, "adversary_optimizer", None)
    return torch.optim.Adam(parameters, lr=regularizer.adversary_lr) if build is None else build(parameters)


def _require_gradients(parameters: list[nn.Parameter], needed: bool) -> None:
    for parameter in parameters:
        parameter.requires_grad_(needed)


def build_observers(
    configs: Iterable[ObserverConfig], context: BuildContext, device: torch.device
) -> dict[str, Observer]:
    """Return observers on ``device`` by their component's type; a second of the same type gets ``#2``."""
    observers: dict[str, Observer] = {}
    for config in configs:
        observer = config.build(context)
        if isinstance(observer, nn.Module):
            observer.to(device)
        same = sum(name.partition("#")[0] == config.type for name in observers)
        observers[f"{config.type}#{same + 1}" if same else config.type] = observer
    return observers
