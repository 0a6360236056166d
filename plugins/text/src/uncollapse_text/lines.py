"""Texts as lines of a file, and as a sample format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor
from uncollapse.capabilities import supports
from uncollapse.plugins import SampleFormat
from uncollapse.protocols import DataSource, ReadsText

__all__ = ["LINES", "as_lines"]

_SHOWN = 10


def as_lines(texts: Sequence[str]) -> list[str]:
    """Return texts without line breaks of their own, for one line each."""
    return [" ".join(text.splitlines()) for text in texts]


def _lines(x: Tensor, data: DataSource) -> list[str]:
    return as_lines(cast(ReadsText, data).to_texts(x))


LINES = SampleFormat(
    ".txt",
    "text",
    lambda data: supports(data, ReadsText),
    lambda x, data: "".join(f"{line}\n" for line in _lines(x, data)).encode(),
    lambda x, data: "\n".join(_lines(x[:_SHOWN], data)),
    rank=1,
)
"""One text a line."""
