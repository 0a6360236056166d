"""Digits that come with the package: no download."""

from __future__ import annotations

from importlib.resources import files
from typing import Literal

import numpy as np
import torch
from pydantic import Field, PositiveInt

from .in_memory import Examples, InMemoryDataConfig
from .splits import InMemorySource

__all__ = ["DigitsConfig"]

_LEVELS = 16


class DigitsConfig(InMemoryDataConfig):
    """8×8 handwritten digits, 1,797 images of 17 grey levels, divided by 16: Alpaydin and Kaynak, Optical Recognition
    of Handwritten Digits, UCI (1998), test part, https://doi.org/10.24432/C50P49, CC BY 4.0.

    Validation and test sets are drawn at random with every class's share kept, by ``split_seed``: 1,297/200/300.
    """

    type: Literal["digits"] = "digits"
    validation: PositiveInt = Field(200, description="validation examples")
    test: PositiveInt = Field(300, description="test examples")

    def build(self, seed: int) -> InMemorySource:
        """Return the source; see :class:`uncollapse.config.DataConfig`."""
        with files(__package__).joinpath("digits.npz").open("rb") as file, np.load(file) as arrays:
            counts, labels = torch.from_numpy(arrays["images"])[:, None], torch.from_numpy(arrays["labels"]).long()
        everything = Examples(counts, labels, _LEVELS)
        rest, test = everything.hold_out(self.test, "stratified", seed=self.split_seed, part="test", place="data.test")
        train, validation = rest.hold_out(
            self.validation, "stratified", seed=self.split_seed, part="validation", place="data.validation"
        )
        return self.assemble(
            train,
            validation,
            test,
            support="unit_interval",
            seed=seed,
            place="data",
            label_names=tuple(str(digit) for digit in range(10)),
        )
