"""The terms of the steps that are not logged yet, kept on the device until someone asks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import NonFiniteLossError

__all__ = ["LossWindow", "Place"]


class Place(NamedTuple):
    """Where a batch stood, for the message when its loss is not finite; all counted from 0.

    Args:
        step: Optimizer step.
        epoch: Pass over the data.
        position: Batch inside the epoch.
    """

    step: int
    epoch: int
    position: int


class LossWindow:
    """Collects the terms of steps without waiting for the device, and averages them over examples when asked.

    A step only appends references to detached tensors. :meth:`settle` moves everything to the host at once, which is
    the only synchronisation, and checks that every loss is finite. A step's mean does not depend on how many others are
    settled with it, so a run that is checkpointed in between logs the same numbers as one that is not.

    Args:
        device: Where terms lie.
        processes: Number of processes that share every batch equally.
        what: ``training`` or ``validation``, for the message.
    """

    def __init__(self, device: torch.device, processes: int = 1, what: str = "training") -> None:
        self._device, self._processes, self._what = device, processes, what
        self._pending: list[tuple[Place, int, Mapping[str, Tensor]]] = []
        self._settled: list[dict[str, Any]] = []
        self.last: Place | None = None

    def add(self, place: Place, examples: int, terms: Mapping[str, Tensor]) -> None:
        """Take note of a step's detached terms, scalars or per example; ``loss`` is one of them."""
        self.last = place
        self._pending.append((place, examples, terms))

    def settle(self) -> None:
        """Bring what is pending to the host.

        Raises:
            NonFiniteLossError: A loss is NaN or infinite; the message names step, terms and batch of the first.
        """
        if not self._pending:
            return
        tensors = [t.reshape(-1) for _, _, terms in self._pending for t in terms.values()]
        lengths = np.array([t.numel() for t in tensors])
        values = torch.cat(tensors).cpu().double().numpy()
        means = np.add.reduceat(values, np.cumsum(lengths) - lengths) / lengths
        if self._processes > 1:
            shared = torch.from_numpy(means).to(self._device, torch.float32 if self._device.type == "mps" else None)
            torch.distributed.all_reduce(shared)
            means = shared.cpu().double().numpy() / self._processes
        numbers = iter(means.tolist())
        for place, examples, terms in self._pending:
            self._settled.append(
                {
                    "step": place.step,
                    "epoch": place.epoch,
                    "position": place.position,
                    "examples": examples,
                    "means": {name: next(numbers) for name in terms},
                }
            )
        self._pending = []
        for entry in self._settled:
            if not math.isfinite(entry["means"]["loss"]):
                raise NonFiniteLossError(self._message(entry))

    def averages(self) -> dict[str, float]:
        """Return every term's mean over all examples, after settling, and start anew."""
        self.settle()
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}
        for entry in self._settled:
            for name, mean in entry["means"].items():
                sums[name] = sums.get(name, 0.0) + mean * entry["examples"]
                counts[name] = counts.get(name, 0) + entry["examples"]
        self._settled = []
        return {name: total / counts[name] for name, total in sums.items()}

    def state(self) -> list[dict[str, Any]]:
        """Return what is settled, as plain numbers."""
        return list(self._settled)

    def load(self, state: list[dict[str, Any]]) -> None:
        """Restore what :meth:`state` returned."""
        self._pending, self._settled = [], list(state)

    def _message(self, entry: Mapping[str, Any]) -> str:
        means: dict[str, float] = entry["means"]
        bad = {name: value for name, value in means.items() if not math.isfinite(value)}
        # The ELBO and the loss are sums; name what made them so, unless nothing else did.
        causes = [name for name in bad if name not in ("loss", "elbo")] or ["loss"]
        listed = ", ".join(f"{name} = {bad[name]}" for name in causes)
        return (
            f"the {self._what} loss is {means['loss']} at step {entry['step']}, in batch {entry['position']} of epoch "
            f"{entry['epoch']} (all counted from 0); not finite: {listed}. Likely causes are a learning rate that is "
            "too high (lower training.optimizer.lr or set training.gradient_clip), or an unbounded log-variance (set "
            "model.posterior.logvar_range)"
        )
