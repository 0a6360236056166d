"""What a plugin may contribute besides components and remedies: formats, measurements, sections of the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..errors import PluginError
from ..protocols import DataSource, Estimates

__all__ = ["Measurement", "ReportSection", "SampleFormat"]


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


@dataclass(frozen=True)
class Measurement:
    """Something that ``uncollapse diagnose`` measures, for a contributed condition or to be read.

    Args:
        name: What it is called where it fails.
        measure: Returns estimates by name, of ``(subject, codes, settings)`` as the diagnosis has them; a
            :class:`~uncollapse.errors.ConfigError` says why the model has nothing to be measured so.
        meanings: What each of them says, in a few words.
    """

    name: str
    measure: Callable[[Any, Any, Any], Estimates]
    meanings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportSection:
    """A section of the page that ``uncollapse report`` writes, with one panel for each run that has something to show.

    Args:
        name: Anchor of the section, unique on the page: letters, digits and dashes.
        title: Heading.
        about: What is to be seen in it, as plain text.
        show: HTML of a panel, with everything escaped that is not its author's, for ``(built, split, seed)``: what the
            run trained, ``train``, ``validation`` or ``test``, and the run's seed. None where it has nothing to show.
        style: Style sheet of its own; rules begin with ``#name``.
    """

    name: str
    title: str
    about: str
    show: Callable[[Any, str, int], str | None]
    style: str = ""
