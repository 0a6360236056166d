import struct
import zlib

import numpy as np
import pytest
from uncollapse.protocols import DataSpec, Support
from uncollapse_images.pictures import data_uri, is_image, pixels, png, strip


def decoded(image: bytes) -> np.ndarray:
    """Read a PNG by the standard: signature, chunks with their checksums, rows of filter type 0."""
    assert image[:8] == b"\x89PNG\r\n\x1a\n"
    position, chunks = 8, []
    while position < len(image):
        (length,) = struct.unpack_from(">I", image, position)
        kind, body = image[position + 4 : position + 8], image[position + 8 : position + 8 + length]
        (checksum,) = struct.unpack_from(">I", image, position + 8 + length)
        assert checksum == zlib.crc32(kind + body)
        chunks.append((kind, body))
        position += 12 + length
    assert [kind for kind, _ in chunks] == [b"IHDR", b"IDAT", b"IEND"]
    width, height, depth, color, *_ = struct.unpack(">IIBBBBB", chunks[0][1])
    assert (depth, color) == (8, 6)
    rows = np.frombuffer(zlib.decompress(chunks[1][1]), np.uint8).reshape(height, 1 + 4 * width)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, 4)


def test_png_keeps_every_byte() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)
    np.testing.assert_array_equal(decoded(png(image)), image)
    assert data_uri(image).startswith("data:image/png;base64,iVBOR")


def test_strip_lays_images_out_in_rows_with_transparent_gaps() -> None:
    images = np.arange(1, 6, dtype=np.uint8).repeat(4 * 6).reshape(5, 4, 6, 1)
    canvas = strip(images, 3)
    assert canvas.shape == (2 * 4 + 1, 3 * 6 + 2, 4)
    assert canvas[0, 0].tolist() == [1, 1, 1, 255]
    assert canvas[5, 7].tolist() == [5, 5, 5, 255]
    assert not canvas[4].any(), "the gap between the rows"
    assert not canvas[:, 6].any(), "the gap between the columns"
    assert not canvas[5:, 14:].any(), "the empty place of the sixth image"


def test_strip_keeps_colour() -> None:
    image = np.array([10, 20, 30], np.uint8).reshape(1, 1, 1, 3).repeat(4, 1).repeat(4, 2)
    assert strip(image)[2, 2].tolist() == [10, 20, 30, 255]


def test_pixels_clip_scale_and_put_channels_last() -> None:
    values = np.array([-1.0, 0.0, 0.5, 1.0, 7.0, np.nan]).reshape(1, 2, 3)
    np.testing.assert_array_equal(pixels(values)[..., 0], [[0, 0, 128], [255, 255, 0]])
    np.testing.assert_array_equal(pixels(np.array([[[-2.0, 2.0]]]), -2, 2).ravel(), [0, 255])
    assert pixels(np.zeros((6, 3, 4, 5))).shape == (6, 4, 5, 3)
    assert pixels(np.ones((1, 2, 2)), 1, 1).max() == 0, "a constant image does not divide by zero"


@pytest.mark.parametrize(
    ("shape", "support", "expected"),
    [
        ((1, 28, 28), "binary", True),
        ((3, 32, 32), "bytes", True),
        ((8, 8), "unit_interval", True),
        ((2, 28, 28), "real", False),
        ((784,), "binary", False),
        ((1, 1, 784), "binary", False),
        ((16, 16), "tokens", False),
    ],
)
def test_what_counts_as_an_image(shape: tuple[int, ...], support: Support, expected: bool) -> None:
    assert is_image(DataSpec(shape, support)) is expected
