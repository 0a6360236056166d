"""Reports: one self-contained page for one run or several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from uncollapse.errors import RunDirectoryError

if TYPE_CHECKING:
    from .collect import RunLike

__all__ = ["build"]


def build(runs: Sequence[RunLike], output: Path | str) -> Path:
    """Write one HTML page on one run or several side by side, and return its path.

    The page is self-contained (about 5 MB, nearly all of it plotly.js) and asks the network for nothing. It is written
    whole or not at all.

    Args:
        runs: Run directories, in the order of the page.
        output: The file to write.

    Raises:
        RunDirectoryError: No run was given, a run cannot be read, or the page cannot be written.
    """
    if not runs:
        raise RunDirectoryError("a report needs at least one run directory, found none")
    output = Path(output)
    if output.is_dir():
        raise RunDirectoryError(
            f"{output} is a folder; a report needs the name of a file, {output / 'report.html'} say"
        )

    from uncollapse.files import write_atomically

    from .collect import collect_runs
    from .page import render
    from .sections import contributed

    sections, left_out = contributed()
    return write_atomically(output, render(collect_runs(runs, sections), left_out))
