"""CIFAR-10, in torchvision's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, PositiveInt
from uncollapse.data import Examples, HeldOut, ImageDataConfig, InMemorySource, Values, reading

from .files import downloading, require
from .torchvision_compat import load_torchvision

__all__ = ["CIFAR10Config"]

_FILES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")


class CIFAR10Config(ImageDataConfig):
    """CIFAR-10, 50,000 + 10,000 colour 32×32 images: Krizhevsky, Learning Multiple Layers of Features from Tiny Images
    (2009), https://www.cs.toronto.edu/~kriz/cifar.html.

    Its files are pickles; torchvision opens them only where their checksums are those of the originals.
    """

    type: Literal["cifar10"] = "cifar10"
    values: Values = Field("bytes", description="bytes k/255, or unit_interval: the same numbers as grey values")
    root: str = Field("data", description="folder of torchvision's layout; relative to the current folder")
    download: bool = Field(False, description="fetch the files through torchvision where they are missing")
    validation: PositiveInt = Field(5_000, description="training examples held out for validation")
    validation_from: HeldOut = Field("random", description="which: random, stratified or last")

    def build(self, seed: int) -> InMemorySource:
        """Return the source; see :class:`uncollapse.config.DataConfig`."""
        dataset = load_torchvision("data.type: cifar10").CIFAR10
        root = Path(self.root).expanduser()
        folder = root / dataset.base_folder
        if self.download:
            with downloading("CIFAR-10", root):
                dataset(root, train=True, download=True)
        require("CIFAR-10", folder, _FILES)
        with reading("data.root", folder):
            parts = [dataset(root, train=part) for part in (True, False)]
        train, validation = _examples(parts[0]).hold_out(
            self.validation, self.validation_from, seed=self.split_seed, part="validation", place="data.validation"
        )
        return self.assemble(
            train,
            validation,
            _examples(parts[1]),
            support=self.values,
            seed=seed,
            place="data.root",
            label_names=tuple(parts[0].classes),
        )


def _examples(part: Any) -> Examples:
    pixels = torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous()
    return Examples(pixels, torch.tensor(part.targets), levels=255)
