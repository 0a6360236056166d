"""MNIST and Fashion-MNIST, from the original IDX files in torchvision's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from uncollapse.data import Examples, HeldOut, ImageDataConfig, InMemorySource, reading

from .files import downloading, require
from .torchvision_compat import load_torchvision

__all__ = ["FashionMNISTConfig", "MNISTConfig"]

_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


class _IDXConfig(ImageDataConfig):
    """Fields and reading of data sets in the format of MNIST."""

    dataset: ClassVar[str]

    root: str = Field("data", description="folder of torchvision's layout; relative to the current folder")
    download: bool = Field(False, description="fetch the files through torchvision where they are missing")
    validation: PositiveInt = Field(10_000, description="training examples held out for validation")
    validation_from: HeldOut = Field(
        "last",
        description="last (VampPrior, MIM: the last 10,000), random (MAE: 2,000), or stratified: random with every "
        "class's share kept",
    )

    def build(self, seed: int) -> InMemorySource:
        """Return the source; see :class:`uncollapse.config.DataConfig`."""
        datasets = load_torchvision(f"data.type: {self.type}")
        dataset = getattr(datasets, self.dataset)
        root = Path(self.root).expanduser()
        raw = root / self.dataset / "raw"
        if self.download:
            with downloading(self.dataset, root):
                dataset(root, train=True, download=True)
        require(self.dataset, raw, _FILES)
        with reading("data.root", raw):
            train, test = (self._examples(dataset(root, train=part)) for part in (True, False))
        train, validation = train.hold_out(
            self.validation, self.validation_from, seed=self.split_seed, part="validation", place="data.validation"
        )
        return self.assemble(
            train,
            validation,
            test,
            support=self.values,
            seed=seed,
            place="data.root",
            label_names=tuple(dataset.classes),
        )

    def _examples(self, part: Any) -> Examples:
        images: torch.Tensor = part.data
        if images.dtype != torch.uint8 or images.dim() != 3:
            raise ValueError(f"expected images of bytes, found {images.dtype} of shape {tuple(images.shape)}")
        if part.targets.shape != images.shape[:1]:
            raise ValueError(f"{len(images)} images, but {len(part.targets)} labels")
        return Examples(images.unsqueeze(1), part.targets, levels=255)


class MNISTConfig(_IDXConfig):
    """MNIST, 60,000 + 10,000 grey 28×28 images: LeCun et al., Gradient-Based Learning Applied to Document Recognition
    (1998), http://yann.lecun.com/exdb/mnist.

    Of the training images, VampPrior (Tomczak and Welling, 2018) and MIM (Livne et al., 2019) hold out the last 10,000
    for validation, which is the default here; MAE (Ma et al., 2019) holds out 2,000 at random
    (``validation: 2000, validation_from: random``) and tests on five binarizations (``test_draws: 5``).
    """

    type: Literal["mnist"] = "mnist"
    dataset: ClassVar[str] = "MNIST"


class FashionMNISTConfig(_IDXConfig):
    """Fashion-MNIST, 60,000 + 10,000 grey 28×28 images: Xiao, Rasul and Vollgraf (2017),
    https://arxiv.org/abs/1708.07747. The splits are those of ``mnist``.
    """

    type: Literal["fashion_mnist"] = "fashion_mnist"
    dataset: ClassVar[str] = "FashionMNIST"
