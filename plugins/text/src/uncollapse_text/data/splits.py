"""Sets of token sequences held in memory, in batches of equal length or filled up with padding."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from uncollapse.data import stream_seed
from uncollapse.errors import ConfigError, ShapeError
from uncollapse.protocols import Batch, DataSpec, SpecialTokens

__all__ = ["Batching", "TextSplit"]

Batching = Literal["equal_length", "padded"]


class TextSplit:
    """Texts as token ids; a :class:`uncollapse.protocols.Split` and :class:`~uncollapse.protocols.GroupedSplit`.

    ``equal_length``: every batch holds texts of one length and no padding, as in the released code of lagging inference
    networks (He et al., 2019, https://arxiv.org/abs/1901.05534), which DU-VAE (Shen et al., 2021) follows. Which texts
    share a batch is fixed by the seed and the batch size, and a shuffled epoch changes the order of the batches only.
    Most lengths have one short batch, which ``drop_last`` leaves out: as it is the same in every epoch, its texts are
    then never seen. Batches that are not shuffled come by length.

    ``padded``: a batch is as wide as its longest text, and ``mask`` says what is real. A shuffled epoch draws the texts
    anew, ``pool`` batches at a time are sorted by length so that little is filled up, and batches come in random order;
    with a pool of 1 every batch is a random one.

    Shares of several processes have the width of the global batch. What :class:`~uncollapse.data.TensorSplit` says of
    seeds and shares holds here too; a batch with fewer texts than processes is left out.

    Args:
        texts: ``N`` sequences of ids, without start, end and padding.
        labels: Class indices ``[N]``, or None.
        spec: What the data look like; ``event_shape`` is ``(T,)``, the longest text with its end.
        batching: How batches are put together.
        pool: Batches that are sorted by length together.
        smallest: Batches with fewer texts are left out: some parts need pairs, or moments of a batch.
        seed: Of order and composition.

    Raises:
        ShapeError: A text is empty or too long for ``spec``, or ``labels`` has another length.
    """

    def __init__(
        self,
        texts: Sequence[Sequence[int]],
        labels: Tensor | None = None,
        *,
        spec: DataSpec,
        batching: Batching = "equal_length",
        pool: int = 50,
        smallest: int = 1,
        seed: int = 0,
    ) -> None:
        if spec.special is None or len(spec.event_shape) != 1:
            raise ShapeError(f"spec: expected texts with special tokens and one event dimension, found {spec}")
        if labels is not None and labels.shape != (len(texts),):
            raise ShapeError(f"labels: expected shape ({len(texts)},), one for each text, found {tuple(labels.shape)}")
        counts = np.fromiter(map(len, texts), np.int64, len(texts))
        if len(counts) and not (counts.min() > 0 and counts.max() < spec.event_shape[0]):
            raise ShapeError(
                f"texts: expected 1 to {spec.event_shape[0] - 1} tokens, found {counts.min()} to {counts.max()}"
            )
        ended = chain.from_iterable(chain(text, (spec.special.end,)) for text in texts)
        self._tokens = torch.from_numpy(np.fromiter(ended, np.int32, int(counts.sum()) + len(counts)))
        self._lengths = torch.from_numpy(counts + 1)
        self._starts = self._lengths.cumsum(0) - self._lengths
        self._labels = None if labels is None else labels.to(torch.int64)
        self._batching, self._pool, self._smallest, self._seed = batching, pool, smallest, seed
        self._special: SpecialTokens = spec.special
        self._composed: tuple[int, list[Tensor]] | None = None
        self.spec = spec

    def __len__(self) -> int:
        return len(self._lengths)

    @property
    def labels(self) -> Tensor | None:
        """Class indices ``[N]`` in the stored order, or None."""
        return self._labels

    @property
    def lengths(self) -> Tensor:
        """Tokens of every text ``[N]``, its end counted."""
        return self._lengths

    def mixed(self) -> TextSplit:
        """Return the same texts in padded batches drawn at random."""
        twin = copy.copy(self)
        twin._batching, twin._pool, twin._smallest = "padded", 1, 1
        return twin

    def steps(self, batch_size: int, *, drop_last: bool = False, processes: int = 1) -> int:
        """Return how many batches :meth:`batches` gives."""
        by_length = self._batching == "equal_length"
        counts = torch.bincount(self._lengths) if by_length else torch.tensor([len(self)])
        short = 0 if drop_last else int((counts % batch_size >= max(self._smallest, processes)).sum())
        return int((counts // batch_size).sum()) + short

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
        """Yield one epoch's batches, ``x`` int64 ``[B, T]``; see :class:`uncollapse.protocols.Split`.

        Raises:
            ConfigError: No batch is large enough, or all are smaller than ``world_size``.
        """
        if batch_size < world_size:
            raise ConfigError(
                f"data.batch_size: {batch_size} examples cannot be shared by {world_size} processes; use a multiple "
                f"of {world_size}"
            )
        least = batch_size if drop_last else max(self._smallest, world_size)
        members = [group for group in self._order(batch_size, epoch, shuffle) if len(group) >= least]
        if not members:
            of = " of one length" if self._batching == "equal_length" else ""
            raise ConfigError(
                f"data.batch_size: there are no {least} texts{of} for a batch, and smaller ones are left out; use a "
                "smaller batch, or training.drop_last: false"
            )
        return (self._batch(group, rank, world_size, device) for group in members[start:])

    def _order(self, batch_size: int, epoch: int, shuffle: bool) -> list[Tensor]:
        """Return the texts of every batch, in the order of the epoch."""
        generator = torch.Generator().manual_seed(stream_seed(self._seed, "order", epoch))
        if self._batching == "equal_length":
            groups = self._by_length(batch_size)
        elif not shuffle:
            return list(torch.arange(len(self)).split(batch_size))
        else:
            drawn = torch.randperm(len(self), generator=generator)
            if self._pool == 1:
                return list(drawn.split(batch_size))
            pools = drawn.split(batch_size * self._pool)
            pools = [pool[self._lengths[pool].argsort(stable=True)] for pool in pools]
            groups = [group for pool in pools for group in pool.split(batch_size)]
        if not shuffle:
            return groups
        return [groups[i] for i in torch.randperm(len(groups), generator=generator).tolist()]

    def _by_length(self, batch_size: int) -> list[Tensor]:
        if self._composed is None or self._composed[0] != batch_size:
            generator = torch.Generator().manual_seed(stream_seed(self._seed, "composition"))
            drawn = torch.randperm(len(self), generator=generator)
            ordered = drawn[self._lengths[drawn].argsort(stable=True)]
            counts = torch.bincount(self._lengths)
            lengths = ordered.split(counts[counts > 0].tolist())
            self._composed = (batch_size, [group for texts in lengths for group in texts.split(batch_size)])
        return self._composed[1]

    def _batch(self, group: Tensor, rank: int, world: int, device: torch.device | str) -> Batch:
        width = int(self._lengths[group].max())
        share = len(group) // world
        mine = group[rank * share : (rank + 1) * share]
        positions = torch.arange(width)
        real = positions < self._lengths[mine, None]
        # Past a text's end the index may point into the next text, or behind the last one.
        index = (self._starts[mine, None] + positions).clamp_(max=len(self._tokens) - 1)
        x = self._tokens[index].long().masked_fill_(~real, self._special.padding)
        labels = None if self._labels is None else self._labels[mine]
        return Batch(x, labels, real if self._batching == "padded" else None).to(device)
