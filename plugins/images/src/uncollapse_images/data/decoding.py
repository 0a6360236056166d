"""Image files to bytes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor
from uncollapse.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["decode"]

Filter = Literal["box", "bilinear"]


def decode(
    file: Path | IO[bytes],
    name: str,
    *,
    grayscale: bool,
    size: tuple[int, int] | None,
    resize: Filter,
    place: str,
) -> Tensor:
    """Return one image as bytes ``[C, height, width]``.

    Args:
        file: Path or open file.
        name: What messages call it.
        grayscale: One channel (luminance) or three (red, green, blue).
        size: Height and width to resize to, with antialiasing and without keeping the ratio; None to keep the size.
        resize: ``box`` is the mean over the area; ``bilinear`` a triangle.
        place: Field of the config to blame.

    Raises:
        DataError: It is no image, truncated, or far too large.
    """
    from PIL import Image, UnidentifiedImageError

    damaged = (OSError, ValueError, SyntaxError, EOFError)
    too_large = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    try:
        with warnings.catch_warnings():
            # Pillow warns of images that decompress to gigabytes and refuses only those twice as large.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as opened:
                image = opened.convert("L" if grayscale else "RGB")
    except (*damaged, *too_large) as error:
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
        raise DataError(f"{place}: {name} cannot be read: {reason}; remove it or get it again") from error
    if size is not None and image.size != size[::-1]:
        image = image.resize(size[::-1], _filter(resize))
    pixels = torch.from_numpy(np.array(image, dtype=np.uint8))
    return pixels[None] if grayscale else pixels.permute(2, 0, 1).contiguous()


def _filter(resize: Filter) -> Image.Resampling:
    from PIL import Image

    return Image.Resampling.BOX if resize == "box" else Image.Resampling.BILINEAR
