"""What a diagnosis asks of a model, and the project's own models in that form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from uncollapse.errors import DataError
from uncollapse.model import LatentVariableModel
from uncollapse.passes import AT_END, device_of
from uncollapse.protocols import Batch

from .posteriors import read_posterior

__all__ = ["ModelSubject", "Subject", "batches_of", "first_examples", "rows_of"]


class Subject(Protocol):
    """A model under diagnosis. :class:`ModelSubject` wraps the project's own models, ``Adapter`` anybody's."""

    module: nn.Module
    """What is put into evaluation mode meanwhile."""

    codes_share_work: bool
    """Whether several codes of one example cost less than as many examples with one code each."""

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        ...

    def posterior(self, batch: Batch) -> Distribution:
        """Return ``q(z|x)``, batch ``[B]``, event ``D``."""
        ...

    def prior(self, event_shape: torch.Size) -> Distribution:
        """Return ``p(z)``, batch ``[]``, event ``D``, for latents of that shape."""
        ...

    def log_likelihood(self, batch: Batch, z: Tensor) -> Tensor:
        """Return ``log p(x|z)`` in nats, ``[S, B]``, for ``z [S, B, *D]``, with its gradient in ``z``."""
        ...


class ModelSubject:
    """A :class:`~uncollapse.model.LatentVariableModel` under diagnosis, every schedule at its final value."""

    codes_share_work = True

    def __init__(self, model: LatentVariableModel) -> None:
        self.module: nn.Module = model
        self._model = model

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return device_of(self._model)

    def posterior(self, batch: Batch) -> Distribution:
        """Return ``q(z|x)``, batch ``[B]``, event ``D``."""
        return read_posterior(self._model.infer(batch.x, AT_END), len(batch))

    def prior(self, event_shape: torch.Size) -> Distribution:
        """Return ``p(z)``, batch ``[]``, event ``D``."""
        return self._model.p_z()

    def log_likelihood(self, batch: Batch, z: Tensor) -> Tensor:
        """Return ``log p(x|z)`` in nats, ``[S, B]``, for ``z [S, B, *D]``."""
        return self._model.generate(z).log_prob(batch.x)


def batches_of(data: Any, batch_size: int) -> Iterator[Batch]:
    """Yield batches of whatever holds examples.

    Args:
        data: A tensor ``[N, *X]`` or a :class:`~uncollapse.protocols.Batch`, which are visited in random order; a
            ``DataLoader`` or another iterable of tensors, pairs ``(x, labels)`` or batches; or a function that
            returns one of these.
        batch_size: Examples at a time, of a tensor or a batch.

    Raises:
        DataError: It is none of these.
    """
    if isinstance(data, Tensor):
        data = Batch(data)
    if isinstance(data, Batch):
        order = torch.randperm(len(data)).to(data.x.device)
        for rows in order.split(batch_size):
            yield rows_of(data, rows)
        return
    items: Iterable[Any] = data() if isinstance(data, Callable) else data  # type: ignore[arg-type]
    if isinstance(items, Tensor | Batch):
        yield from batches_of(items, batch_size)
        return
    for item in items:
        yield _as_batch(item)


def _as_batch(item: Any) -> Batch:
    if isinstance(item, Batch):
        return item
    if isinstance(item, Tensor):
        return Batch(item)
    if isinstance(item, tuple | list) and item and isinstance(item[0], Tensor):
        labels = item[1] if len(item) > 1 and isinstance(item[1], Tensor) and item[1].dim() == 1 else None
        return Batch(item[0], labels)
    keys = f" with the keys {', '.join(map(str, item))}" if isinstance(item, dict) else ""
    raise DataError(
        f"data: expected batches that are tensors, pairs (x, labels) or uncollapse.Batch, found {type(item).__name__}"
        f"{keys}; give a generator that makes one of these, (uncollapse.Batch(x, mask=mask) for b in loader) say"
    )


def first_examples(batches: Iterable[Batch], count: int) -> Iterator[Batch]:
    """Yield the first ``count`` examples, the last batch cut where they end."""
    for batch in batches:
        if len(batch):
            yield rows_of(batch, slice(count))
        count -= len(batch)
        if count <= 0:
            return


def rows_of(batch: Batch, rows: slice | Tensor) -> Batch:
    """Return some examples of a batch."""
    x, labels, mask = (None if t is None else t[rows] for t in (batch.x, batch.labels, batch.mask))
    assert x is not None
    return Batch(x, labels, mask)
