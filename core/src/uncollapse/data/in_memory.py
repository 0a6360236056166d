"""What all sources held in memory share: fields for binarization and splits, and how the splits are made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field, PositiveInt, model_validator
from torch import Tensor

from ..errors import ConfigError
from ..kinds import DataConfig
from ..protocols import Support
from .checks import check_labels, check_same_shape
from .division import HeldOut, hold_out
from .noise import draw_fixed, stream_seed
from .splits import InMemorySource, TensorSplit

__all__ = ["Binarize", "Examples", "ImageDataConfig", "InMemoryDataConfig", "Values"]

Binarize = Literal["none", "dynamic", "static", "threshold"]
Values = Literal["unit_interval", "bytes"]
"""What intensities become: fractions of the highest one, or bytes, on the grid k/255."""


@dataclass(frozen=True)
class Examples:
    """A set before binarization.

    Args:
        x: Data ``[N, *X]``: float32, or uint8 counts ``0..levels``.
        labels: Class indices ``[N]``, or None.
        levels: For uint8 data: the count that means 1.
    """

    x: Tensor
    labels: Tensor | None = None
    levels: int = 1

    def __len__(self) -> int:
        return int(self.x.shape[0])

    def take(self, indices: Tensor | slice) -> Examples:
        """Return the examples at ``indices``."""
        return Examples(self.x[indices], None if self.labels is None else self.labels[indices], self.levels)

    def hold_out(self, count: int, how: HeldOut, *, seed: int, part: str, place: str) -> tuple[Examples, Examples]:
        """Return what stays and what is held out; see :func:`uncollapse.data.division.hold_out`."""
        stay, held = hold_out(len(self), count, how, seed=seed, part=part, place=place, labels=self.labels)
        return self.take(stay), self.take(held)


class InMemoryDataConfig(DataConfig):
    """Fields of sources that are held in memory.

    Validation and test sets never depend on the run's seed: which examples they hold and how they are binarized
    follows from ``split_seed`` alone, so runs with different seeds are measured on the same data.
    """

    binarize: Binarize = Field(
        "none",
        description="none; dynamic: a fresh Bernoulli draw in every training minibatch, validation and test are one "
        "fixed draw; static: one fixed draw for training too; threshold: 1 where the value is above 0.5",
    )
    test_draws: int = Field(
        1, ge=1, le=100, description="independent binarizations of the test set, one after the other (MAE uses 5)"
    )
    limit: PositiveInt | None = Field(None, description="use only the first training examples; null for all")
    split_seed: int = Field(
        0, ge=0, lt=2**31, description="seed of random splits and of fixed binary draws; the run's seed is another"
    )

    @model_validator(mode="after")
    def _draws_differ(self) -> InMemoryDataConfig:
        if self.test_draws > 1 and self.binarize not in ("dynamic", "static"):
            raise ValueError(
                f"test_draws: {self.test_draws} draws of the test set would be equal with binarize: {self.binarize}; "
                "use binarize: dynamic or static, or test_draws: 1"
            )
        return self

    def assemble(
        self,
        train: Examples,
        validation: Examples,
        test: Examples,
        *,
        support: Support,
        seed: int,
        place: str,
        label_names: tuple[str, ...] = (),
    ) -> InMemorySource:
        """Return the source of three sets.

        Args:
            train: Training examples, before ``limit``.
            validation: Validation examples.
            test: Test examples.
            support: Where the values lie before binarization.
            seed: Of the order of batches and of dynamic binarization.
            place: Field of the config to blame for what the sets hold.
            label_names: Name of every class.

        Raises:
            DataError: Shapes differ, or labels do not fit.
            ConfigError: ``limit`` is more than there is.
        """
        sets = {"train": train, "validation": validation, "test": test}
        check_same_shape({part: tuple(examples.x.shape[1:]) for part, examples in sets.items()}, place)
        for part, examples in sets.items():
            check_labels(examples.labels, len(examples), place, part)
        if self.limit is not None:
            if self.limit > len(train):
                raise ConfigError(
                    f"data.limit: {self.limit} training examples were asked for, there are {len(train)}; use at most "
                    f"{len(train)} or leave limit out"
                )
            sets["train"] = train.take(slice(0, self.limit))
        classes = len(label_names) or _classes(sets)
        splits = {part: self._split(part, examples, support, seed, classes) for part, examples in sets.items()}
        return InMemorySource(splits["train"], splits["validation"], splits["test"], label_names)

    def _split(self, part: str, examples: Examples, support: Support, seed: int, classes: int | None) -> TensorSplit:
        x, labels, levels = examples.x, examples.labels, examples.levels
        seed = stream_seed(seed, part)
        if self.binarize == "none":
            return TensorSplit(x, labels, support=support, levels=levels, seed=seed, classes=classes)
        if self.binarize == "dynamic" and part == "train":
            return TensorSplit(x, labels, levels=levels, dynamic=True, seed=seed, classes=classes)
        if self.binarize == "threshold":
            return TensorSplit((x > levels / 2).byte(), labels, support="binary", seed=seed, classes=classes)
        draws = self.test_draws if part == "test" else 1
        drawn = draw_fixed(x, stream_seed(self.split_seed, "draw", part), levels=levels, draws=draws)
        repeated = None if labels is None else labels.repeat(draws)
        return TensorSplit(drawn, repeated, support="binary", seed=seed, classes=classes)


class ImageDataConfig(InMemoryDataConfig):
    """Fields of sources of 8-bit images."""

    values: Values = Field(
        "unit_interval",
        description="what values mean where they are not binarized: unit_interval [0, 1], or bytes k/255, which "
        "likelihoods of discrete values need",
    )

    @model_validator(mode="after")
    def _values_matter(self) -> ImageDataConfig:
        if self.values == "bytes" and self.binarize != "none":
            raise ValueError(f"values: bytes has no meaning with binarize: {self.binarize}; leave one of them out")
        return self


def _classes(sets: dict[str, Examples]) -> int | None:
    largest = [int(s.labels.max()) for s in sets.values() if s.labels is not None]
    return 1 + max(largest) if largest else None
