"""Points drawn from a mixture of Gaussians, fresh ones in every epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor
from uncollapse.config import DataConfig
from uncollapse.data import InMemorySource, TensorSplit
from uncollapse.protocols import Batch, DataSpec

from .mixtures import MixtureFields

__all__ = ["MixtureDataConfig", "RedrawnSplit", "seed_of"]


def seed_of(*parts: int | str) -> int:
    """Return a seed in ``0..2**63-1`` that depends on all ``parts``; different parts give unrelated seeds."""
    digest = hashlib.blake2b(repr(("mim", *parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class RedrawnSplit:
    """A split whose examples are drawn anew for every epoch; implements :class:`uncollapse.protocols.Split`.

    An epoch's examples follow from its number alone, and all of one epoch are drawn at once, so that a batch does not
    depend on what came before or on how many processes share it.

    Args:
        draw: Gives an epoch's examples ``[N, *X]`` and labels ``[N]``.
        size: ``N``.
        classes: Number of label classes.
        seed: Of the order of batches.
        fresh: Draw anew for every epoch; else every epoch has the examples of the first.
    """

    def __init__(
        self, draw: Callable[[int], tuple[Tensor, Tensor]], size: int, classes: int, seed: int, *, fresh: bool = True
    ) -> None:
        self._draw, self._size, self._classes, self._seed, self._fresh = draw, size, classes, seed, fresh
        self._epoch, self._drawn = 0, self._draw_epoch(0)
        self.spec: DataSpec = self._drawn.spec

    def __len__(self) -> int:
        return self._size

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
        """Yield one epoch's batches; see :class:`uncollapse.protocols.Split`.

        Raises:
            ConfigError: As :class:`uncollapse.data.TensorSplit`.
        """
        wanted = epoch if self._fresh else 0
        if wanted != self._epoch:
            self._epoch, self._drawn = wanted, self._draw_epoch(wanted)
        return self._drawn.batches(
            batch_size,
            epoch=epoch,
            shuffle=shuffle,
            drop_last=drop_last,
            start=start,
            rank=rank,
            world_size=world_size,
            device=device,
        )

    def _draw_epoch(self, epoch: int) -> TensorSplit:
        x, labels = self._draw(epoch)
        return TensorSplit(x, labels, support="real", seed=self._seed, classes=self._classes)


class MixtureDataConfig(MixtureFields, DataConfig):
    """Points of a mixture of Gaussians, labelled by component: Livne et al., MIM (2019), section 5.1,
    https://arxiv.org/abs/1910.03175.

    By default five components in the plane, drawn anew in every epoch of training, as the released ``toy4``, whose
    ``toy4_20`` has ``dimensions: 20``. Validation and test points do not depend on the run's seed and stay the same;
    the released code draws them anew at every access too.
    """

    type: Literal["mim.mixture"] = "mim.mixture"
    batch_size: int = Field(128, ge=1, description="examples of one optimizer step, over all processes")
    dimensions: PositiveInt = Field(2, description="numbers of one point")
    train: PositiveInt = Field(10_000, description="points of an epoch")
    validation: PositiveInt = Field(10_000, description="validation points")
    test: PositiveInt = Field(10_000, description="test points")
    fresh: bool = Field(True, description="draw the training points anew in every epoch; false: one fixed set")
    split_seed: int = Field(0, ge=0, lt=2**31, description="seed of validation and test points; the run's is another")

    def build(self, seed: int) -> InMemorySource:
        """Return the source; see :class:`uncollapse.config.DataConfig`.

        Raises:
            ConfigError: Given means have another length than ``dimensions``.
        """
        mixture = self.mixture(self.dimensions, "data")
        classes = len(mixture.weights)

        def draw(count: int, stream: tuple[int | str, ...], epoch: int) -> tuple[Tensor, Tensor]:
            return mixture.draw(count, torch.Generator().manual_seed(seed_of(*stream, epoch)))

        train = RedrawnSplit(
            partial(draw, self.train, (seed, "train")), self.train, classes, seed_of(seed, "order"), fresh=self.fresh
        )
        held = {
            part: TensorSplit(
                *draw(count, (self.split_seed, part), 0), support="real", seed=seed_of(seed, part), classes=classes
            )
            for part, count in (("validation", self.validation), ("test", self.test))
        }
        names = tuple(f"component {k}" for k in range(classes))
        return InMemorySource(train, held["validation"], held["test"], names)
