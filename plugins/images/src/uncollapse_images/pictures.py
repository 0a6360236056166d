"""Pixels: from tensors to bytes to PNG data URIs. No imaging library is needed for that, so none is asked for."""

from __future__ import annotations

import base64
import math
import struct
import zlib

import numpy as np
import numpy.typing as npt
from torch import Tensor
from uncollapse.plugins import SampleFormat
from uncollapse.protocols import DataSource, DataSpec

__all__ = ["PICTURES", "PixelArray", "data_uri", "is_image", "pixels", "png", "strip"]

PixelArray = npt.NDArray[np.uint8]
"""Pixels as bytes, 0 to 255."""

_CHANNELS = (1, 3)
_SMALLEST_SIDE = 4


def is_image(spec: DataSpec) -> bool:
    """Say whether data of this kind can be looked at: ``[H, W]`` or ``[C, H, W]`` with one or three channels.

    >>> is_image(DataSpec((1, 28, 28), "binary")), is_image(DataSpec((2,), "real"))
    (True, False)
    """
    shape = spec.event_shape
    if spec.support == "tokens" or len(shape) not in (2, 3) or min(shape[-2:]) < _SMALLEST_SIDE:
        return False
    return len(shape) == 2 or shape[0] in _CHANNELS


def pixels(values: npt.NDArray[np.floating], low: float = 0.0, high: float = 1.0) -> PixelArray:
    """Return bytes ``[..., H, W, C]`` for values ``[..., C, H, W]``; ``low`` is black and ``high`` white.

    What lies outside is clipped, and what is not a number is black.
    """
    scaled = (np.asarray(values, dtype=np.float64) - low) / max(high - low, np.finfo(np.float64).tiny)
    clipped = np.clip(np.nan_to_num(scaled, nan=0.0, posinf=1.0, neginf=0.0), 0.0, 1.0)
    return np.moveaxis(np.round(clipped * 255).astype(np.uint8), -3, -1)


def strip(images: PixelArray, columns: int | None = None) -> PixelArray:
    """Lay images ``[K, H, W, C]`` out in rows of ``columns``; RGBA ``[H', W', 4]`` with transparent gaps.

    Args:
        images: Bytes, one or three channels.
        columns: Images in a row; all of them by default.
    """
    count, height, width, channels = images.shape
    columns = min(columns or count, count)
    rows = -(-count // columns)
    gap = max(1, height // 14)
    canvas = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, 4), np.uint8)
    for index, image in enumerate(images):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        tile = canvas[top : top + height, left : left + width]
        tile[..., :3] = np.repeat(image, 3, axis=-1) if channels == 1 else image
        tile[..., 3] = 255
    return canvas


def png(rgba: PixelArray) -> bytes:
    """Encode ``[H, W, 4]`` as PNG: W3C, Portable Network Graphics (third edition), sections 5 and 9.

    Rows carry filter type 0; the strips of a report are small enough for that.
    """
    height, width, _ = rgba.shape
    filtered = np.concatenate([np.zeros((height, 1), np.uint8), rgba.reshape(height, width * 4)], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(filtered.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks)


def data_uri(rgba: PixelArray) -> str:
    """Return ``[H, W, 4]`` as a PNG data URI."""
    return "data:image/png;base64," + base64.b64encode(png(rgba)).decode("ascii")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _encode(x: Tensor, data: DataSource) -> bytes:
    values = x.float().numpy()
    images = values if values.ndim == 4 else values[:, None]
    # Values outside [0, 1] occur with real data only, and have no natural black and white.
    low, high = min(0.0, float(images.min())), max(1.0, float(images.max()))
    return png(strip(pixels(images, low, high), columns=math.ceil(math.sqrt(len(images)))))


PICTURES = SampleFormat(".png", "picture", lambda data: is_image(data.spec), _encode, rank=1)
"""Samples in a square, as one picture."""
