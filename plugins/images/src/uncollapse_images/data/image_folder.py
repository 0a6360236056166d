"""Folders of image files, one folder a class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, PositiveInt
from uncollapse.data import Examples, ImageDataConfig, InMemorySource
from uncollapse.errors import ConfigError, DataError

from .decoding import decode
from .torchvision_compat import load_torchvision

__all__ = ["ImageFolderConfig"]


class ImageFolderConfig(ImageDataConfig):
    """Images in class folders, read through ``torchvision.datasets.ImageFolder``:
    https://docs.pytorch.org/vision/stable/generated/torchvision.datasets.ImageFolder.html.

    ``root`` holds either one folder a class, or folders ``train`` and, if wanted, ``validation`` and ``test`` that
    hold them. A set without a folder is drawn at random from the training images. All images are decoded once and kept
    as bytes.
    """

    type: Literal["image_folder"] = "image_folder"
    root: str = Field(description="folder of class folders, or of train/validation/test", examples=["data/photographs"])
    size: PositiveInt | tuple[PositiveInt, PositiveInt] | None = Field(
        None, description="side, or [height, width], to resize to with antialiasing; null where all sizes are equal"
    )
    grayscale: bool = Field(False, description="one channel instead of three")
    validation: PositiveInt | None = Field(None, description="images held out for validation; null for a tenth")
    test: PositiveInt | None = Field(None, description="images held out for the test; null for a tenth")

    def build(self, seed: int) -> InMemorySource:
        """Return the source; see :class:`uncollapse.config.DataConfig`."""
        datasets = load_torchvision("data.type: image_folder")
        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise DataError(f"data.root: there is no folder {root.absolute()}; point data.root at the folder of images")
        divided = (root / "train").is_dir()
        train, classes = self._read(datasets, root / "train" if divided else root)
        sets: dict[str, Examples] = {}
        for part, count in (("test", self.test), ("validation", self.validation)):
            if divided and (root / part).is_dir():
                if count is not None:
                    raise ConfigError(
                        f"data.{part}: {count} images were asked for, but {root.absolute() / part} holds the set; "
                        f"leave data.{part} out"
                    )
                sets[part], _ = self._read(datasets, root / part, classes)
        whole = len(train)
        for part, count in (("test", self.test), ("validation", self.validation)):
            if part not in sets:
                train, sets[part] = train.hold_out(
                    count or max(1, whole // 10), "random", seed=self.split_seed, part=part, place=f"data.{part}"
                )
        return self.assemble(
            train,
            sets["validation"],
            sets["test"],
            support=self.values,
            seed=seed,
            place="data.root",
            label_names=tuple(classes),
        )

    def _read(self, datasets: Any, folder: Path, classes: Sequence[str] | None = None) -> tuple[Examples, list[str]]:
        try:
            listing = datasets.ImageFolder(folder)
        except FileNotFoundError as error:
            raise DataError(
                f"data.root: {folder.absolute()} does not hold class folders with images ({error}); expected "
                "class/image.png in it"
            ) from error
        if classes is not None and (strange := sorted(set(listing.classes) - set(classes))):
            raise DataError(
                f"data.root: {folder.absolute()} holds the class {strange[0]!r}, which the training images do not "
                f"have; known classes: {', '.join(classes)}"
            )
        known = list(classes or listing.classes)
        size = (self.size, self.size) if isinstance(self.size, int) else self.size
        images: list[torch.Tensor] = []
        labels: list[int] = []
        for path, label in listing.samples:
            image = decode(Path(path), path, grayscale=self.grayscale, size=size, resize="bilinear", place="data.root")
            if images and image.shape != images[0].shape:
                raise DataError(
                    f"data.size: {path} is {_pixels(image)} pixels, {listing.samples[0][0]} is {_pixels(images[0])}; "
                    f"images must be of one size, so set data.size, {max(images[0].shape[1:])} say"
                )
            images.append(image)
            labels.append(known.index(listing.classes[label]))
        return Examples(torch.stack(images), torch.tensor(labels), levels=255), known


def _pixels(image: torch.Tensor) -> str:
    return f"{image.shape[1]}×{image.shape[2]}"
