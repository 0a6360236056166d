"""Sets of examples held in memory: batches by index, never collated example by example."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..errors import ConfigError, ShapeError
from ..protocols import Batch, DataSpec, Split, Support
from .noise import binarize, stream_seed

__all__ = ["InMemorySource", "TensorSplit"]


class TensorSplit:
    """Examples in one tensor; implements :class:`uncollapse.protocols.Split`.

    The order of a shuffled epoch follows from ``(seed, epoch)``. Dynamic binarization (Salakhutdinov and Murray, 2008)
    draws its noise from ``(seed, epoch, position of the batch)`` for the whole global batch, so a batch is the same
    whatever came before, wherever the epoch started and however many processes share it. The noise is drawn where the
    data are; a CPU and a GPU therefore see different draws of the same probabilities.

    With several processes the shares of a batch are equal and contiguous. Where a batch does not divide, its last
    ``len(batch) % world_size`` examples are left out of the epoch: equal shares are what averaging gradients needs.
    An evaluation that must count every example runs with ``world_size=1``.

    Data move to ``device`` once and stay there if they fill less than half of its free memory, else batch by batch.

    Args:
        x: Data ``[N, *X]``: float, or uint8 counts ``0..levels`` which are divided by ``levels`` when batches are made
            (a quarter of the memory).
        labels: Class indices ``[N]``, or None.
        support: Where the values of batches lie.
        levels: For uint8 data: the count that means 1.
        dynamic: Draw every batch's binary values anew, with the stored values as probabilities.
        seed: Of order and noise.
        classes: Number of label classes; by default one more than the largest label.

    Raises:
        ShapeError: ``x`` has no event dimension, or ``labels`` has another length.
    """

    def __init__(
        self,
        x: Tensor,
        labels: Tensor | None = None,
        *,
        support: Support = "real",
        levels: int = 1,
        dynamic: bool = False,
        seed: int = 0,
        classes: int | None = None,
    ) -> None:
        if x.dim() < 2:
            raise ShapeError(f"x: expected [N, *X] with at least one event dimension, found shape {tuple(x.shape)}")
        if labels is not None and labels.shape != x.shape[:1]:
            raise ShapeError(f"labels: expected shape ({len(x)},), one for each example, found {tuple(labels.shape)}")
        self._x = x if x.dtype == torch.uint8 else x.to(torch.float32)
        self._labels = None if labels is None else labels.to(torch.int64)
        self._levels, self._dynamic, self._seed = levels, dynamic, seed
        if classes is None and self._labels is not None:
            classes = int(self._labels.max()) + 1
        self.spec = DataSpec(tuple(x.shape[1:]), "binary" if dynamic else support, classes)
        self._resident: dict[torch.device, tuple[Tensor, Tensor | None]] = {}

    def __len__(self) -> int:
        return int(self._x.shape[0])

    @property
    def labels(self) -> Tensor | None:
        """Class indices ``[N]`` in the stored order, or None."""
        return self._labels

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
        """Yield one epoch's batches, ``x`` float32 ``[B, *X]``; see :class:`uncollapse.protocols.Split`.

        Raises:
            ConfigError: The batch is larger than the set and ``drop_last`` leaves nothing, or smaller than
                ``world_size``.
        """
        if drop_last and batch_size > len(self):
            raise ConfigError(
                f"data.batch_size: {batch_size} is more than the {len(self)} examples of the set, so no full batch "
                f"exists; use at most {len(self)}"
            )
        if batch_size < world_size:
            raise ConfigError(
                f"data.batch_size: {batch_size} examples cannot be shared by {world_size} processes; use a multiple "
                f"of {world_size}"
            )
        count = len(self) // batch_size if drop_last else -(-len(self) // batch_size)
        return self._batches(batch_size, range(start, count), epoch, shuffle, rank, world_size, torch.device(device))

    def stored(self, count: int, device: torch.device | str = "cpu") -> Tensor:
        """Return the first ``count`` examples in the stored order, float32 ``[count, *X]``.

        Of a dynamically binarized set these are the probabilities, not draws.
        """
        return self._as_float(self._x[:count].to(device, copy=True))

    def _batches(
        self, batch_size: int, positions: range, epoch: int, shuffle: bool, rank: int, world: int, device: torch.device
    ) -> Iterator[Batch]:
        x, labels = self._on(device)
        order = None
        if shuffle:
            generator = torch.Generator().manual_seed(stream_seed(self._seed, "order", epoch))
            order = torch.randperm(len(self), generator=generator).to(x.device)
        noise = torch.Generator(device=device) if self._dynamic else None
        for position in positions:
            begin = position * batch_size
            size = min(batch_size, len(self) - begin)
            share = size // world
            if share == 0:
                return
            here = slice(begin + rank * share, begin + (rank + 1) * share)
            if order is None:
                # A copy: whoever changes a batch must not change the data.
                values = x[here].clone()
                targets = None if labels is None else labels[here].clone()
            else:
                chosen = order[here]
                values = x.index_select(0, chosen)
                targets = None if labels is None else labels.index_select(0, chosen)
            values = values.to(device, non_blocking=True)
            targets = None if targets is None else targets.to(device, non_blocking=True)
            if noise is not None:
                noise.manual_seed(stream_seed(self._seed, "binarize", epoch, position))
                values = binarize(values, noise, levels=self._levels, of=size, first=rank * share)
            else:
                values = self._as_float(values)
            yield Batch(values, targets)

    def _as_float(self, values: Tensor) -> Tensor:
        if values.dtype != torch.uint8:
            return values
        return values.float() if self._levels == 1 else values.float().div_(self._levels)

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Return the data on ``device``, or where they are when they do not fit."""
        if device not in self._resident:
            fits = device.type != "cuda" or self._x.nbytes < torch.cuda.mem_get_info(device)[0] // 2
            home = device if fits else self._x.device
            self._resident[device] = (self._x.to(home), None if self._labels is None else self._labels.to(home))
        return self._resident[device]


class InMemorySource:
    """Three splits held in memory; implements :class:`uncollapse.protocols.DataSource`.

    Args:
        train: Training examples.
        validation: Examples for model selection.
        test: Examples for the final numbers.
        label_names: Name of every class, in the order of the indices; empty where there are none.
    """

    def __init__(self, train: Split, validation: Split, test: Split, label_names: tuple[str, ...] = ()) -> None:
        self.train, self.validation, self.test = train, validation, test
        self.label_names = label_names
        self.spec: DataSpec = train.spec
