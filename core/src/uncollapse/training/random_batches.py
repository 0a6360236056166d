"""Batches of training data beside those of the epoch, for strategies that ask for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from ..protocols import Batch, Split, count_batches

__all__ = ["RandomBatches"]

_FIRST_EPOCH = 2**30
"""Order and noise follow from the epoch's number, and no run has so many: these passes repeat none of its epochs."""


class RandomBatches:
    """One batch after the other of shuffled passes over a split, without end; each example comes once a pass.

    Where it stands are two numbers, so a resumed run draws the batches that an uninterrupted one would have drawn.

    Args:
        split: Training data.
        batch_size: Of the global batch.
        rank: This process.
        world_size: Number of processes.
        device: Where batches are wanted.
    """

    def __init__(self, split: Split, batch_size: int, rank: int, world_size: int, device: torch.device) -> None:
        self._split, self._batch_size, self._device = split, batch_size, device
        self._rank, self._world_size = rank, world_size
        self._drop_last = count_batches(split, batch_size, drop_last=True, processes=world_size) > 0
        self._pass, self._position = 0, 0
        self._batches: Iterator[Batch] | None = None

    def next(self) -> Batch:
        """Return the next batch, this process's share of it."""
        batch = None if self._batches is None else next(self._batches, None)
        if batch is None:
            if self._batches is not None:
                self._pass, self._position = self._pass + 1, 0
            self._batches = self._begin()
            batch = next(self._batches)
        self._position += 1
        return batch

    def state_dict(self) -> dict[str, int]:
        """Return passes and batches done."""
        return {"pass": self._pass, "position": self._position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self._pass, self._position, self._batches = int(state["pass"]), int(state["position"]), None

    def _begin(self) -> Iterator[Batch]:
        return self._split.batches(
            self._batch_size,
            epoch=_FIRST_EPOCH + self._pass,
            shuffle=True,
            drop_last=self._drop_last,
            start=self._position,
            rank=self._rank,
            world_size=self._world_size,
            device=self._device,
        )
