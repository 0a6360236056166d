"""What data must be able to do: the protocols of sources and splits, and their optional methods."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .capabilities import supports
from .records import Batch, DataSpec

__all__ = [
    "DataSource",
    "GroupedSplit",
    "KeepsArtifacts",
    "ReadsText",
    "Split",
    "Stored",
    "count_batches",
    "joined",
    "mixed",
]


class Split(Protocol):
    """Part of a data source: a set of examples that yields batches, repeatably.

    ``batches`` gives the same batches for the same arguments, whatever came before: order and noise follow from the
    source's seed and ``epoch``. ``start`` skips that many batches without computing them. With ``world_size`` above
    one, ``batch_size`` is the global batch and each rank gets its equal share of the same global batches.
    """

    spec: DataSpec

    def __len__(self) -> int: ...

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
        """Yield one epoch's batches."""
        ...


class DataSource(Protocol):
    """Where examples come from: what they look like, and the splits."""

    spec: DataSpec
    train: Split
    validation: Split
    test: Split


class GroupedSplit(Protocol):
    """A split whose batches hold examples that are alike (texts of one length) defines both of these methods.

    How many batches there are does not follow from the number of examples then, and the first batches are no random
    sample of the split.
    """

    def steps(self, batch_size: int, *, drop_last: bool = False, processes: int = 1) -> int:
        """Return how many batches ``batches`` gives; the trainer asks through :func:`count_batches`."""
        ...

    def mixed(self) -> Split:
        """Return the same examples in batches drawn at random; measurements ask for them through :func:`mixed`."""
        ...


class Stored(Protocol):
    """A split that has its examples as they are before shuffling and before binary draws defines ``stored``."""

    def stored(self, count: int, device: torch.device | str = "cpu") -> Tensor:
        """Return the first ``count`` examples ``[count, *X]``, or all where there are fewer, as they are kept."""
        ...


class KeepsArtifacts(Protocol):
    """A data source that learned something from its data (a vocabulary) defines ``artifacts``.

    A run keeps them, and hands their folder to :meth:`uncollapse.config.DataConfig.rebuild` when it is loaded.
    """

    def artifacts(self) -> Mapping[str, bytes]:
        """Return the content of every file that the run is to keep, by file name; the same data give the same bytes."""
        ...


class ReadsText(Protocol):
    """A data source whose tokens stand for text defines both of these methods; commands and reports call them."""

    def to_tokens(self, texts: Sequence[str]) -> Tensor:
        """Return ``[N, T]``, tokens as batches hold them: ``w1 … wn </s>`` and padding up to the longest.

        Raises:
            DataError: A text has no token, or more than the data's longest may have.
        """
        ...

    def to_texts(self, tokens: Tensor) -> list[str]:
        """Return one text for each row of ``[N, T]``; it ends before the first ``</s>``."""
        ...


def count_batches(split: Split, batch_size: int, *, drop_last: bool = False, processes: int = 1) -> int:
    """Return how many batches an epoch of ``split`` has.

    A batch with fewer examples than there are processes has no share for each of them and is left out.
    """
    if supports(split, GroupedSplit):
        return split.steps(batch_size, drop_last=drop_last, processes=processes)
    full, rest = divmod(len(split), batch_size)
    return full + (not drop_last and rest >= processes)


def mixed(split: Split) -> Split:
    """Return ``split`` in batches that are random samples of it when they are shuffled."""
    return split.mixed() if supports(split, GroupedSplit) else split


def joined(batches: Iterable[Batch], spec: DataSpec) -> Iterator[Batch]:
    """Yield batches, one of a single example joined to that before it, or after it: pairs have no value for it."""
    held: Batch | None = None
    padding = spec.special.padding if spec.special else 0
    for batch in batches:
        if held is not None and min(len(held), len(batch)) > 1:
            yield held
            held = None
        if held is not None:
            # Batches of texts differ in width.
            labels = None if held.labels is None or batch.labels is None else torch.cat([held.labels, batch.labels])
            mask = None if held.mask is None or batch.mask is None else pad_sequence([*held.mask, *batch.mask], True)
            batch = Batch(pad_sequence([*held.x, *batch.x], True, padding), labels, mask)
        held = batch
    if held is not None:
        yield held
