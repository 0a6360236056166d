"""Texts before they are tokens, each with the place it came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from uncollapse.data import HeldOut, hold_out, stream_seed

__all__ = ["Corpus"]


@dataclass(frozen=True)
class Corpus:
    """A set of texts.

    Args:
        texts: ``N`` texts.
        where: Place of the text at an index, for messages: ``reviews.txt, line 17`` say.
        labels: Class indices ``[N]``, or None.
    """

    texts: Sequence[str]
    where: Callable[[int], str]
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: Tensor) -> Corpus:
        """Return the texts at ``indices [n]``."""
        chosen, where = indices.tolist(), self.where
        texts = [self.texts[i] for i in chosen]
        return Corpus(texts, lambda i: where(chosen[i]), None if self.labels is None else self.labels[indices])

    def hold_out(self, count: int, *, seed: int, part: str, place: str) -> tuple[Corpus, Corpus]:
        """Return what stays and ``count`` texts that are held out at random, in the order of the files.

        Every class keeps its share where there are labels. See :func:`uncollapse.data.division.hold_out`.
        """
        how: HeldOut = "random" if self.labels is None else "stratified"
        stay, held = hold_out(len(self), count, how, seed=seed, part=part, place=place, labels=self.labels)
        return self.take(stay.sort().values), self.take(held.sort().values)

    def draw(self, count: int, seed: int) -> Corpus:
        """Return ``count`` texts drawn at random, in the order of the files; all of them where there are no more."""
        if count >= len(self):
            return self
        generator = torch.Generator().manual_seed(stream_seed(seed, "limit"))
        return self.take(torch.randperm(len(self), generator=generator)[:count].sort().values)
