"""How samples are written: formats that installed distributions bring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..errors import PluginError
from ..protocols import DataSource

__all__ = ["SampleFormat"]


@dataclass(frozen=True)
class SampleFormat:
    """A file format of ``uncollapse sample``.

    Args:
        suffix: How the file's name ends, ``.png`` say.
        content: What it shows, in a word, for messages: ``picture``.
        fits: Whether data of this source can be written so.
        encode: The file's bytes for samples ``[N, *X]`` on the CPU.
        preview: What is printed of them, or None.
        rank: Of the formats that fit, the one with the lowest rank is the default; numbers, which always fit, have 9.

    Raises:
        PluginError: The suffix does not begin with a dot.
    """

    suffix: str
    content: str
    fits: Callable[[DataSource], bool]
    encode: Callable[[Tensor, DataSource], bytes]
    preview: Callable[[Tensor, DataSource], str] | None = None
    rank: int = 5

    def __post_init__(self) -> None:
        if not self.suffix.startswith(".") or self.suffix != self.suffix.lower():
            raise PluginError(f"a sample format's suffix is written like '.png', found {self.suffix!r}")
