"""What the generated pages are written with."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path


def escape(text: str) -> str:
    """Return plain text so that reStructuredText leaves it as it is."""
    return re.sub(r"([\\*`|_])", r"\\\1", text)


def heading(text: str, line: str) -> str:
    """Return a heading, underlined with ``line``."""
    shown = escape(text)
    return f"{shown}\n{line * len(shown)}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], style: str) -> str:
    """Return a table of reStructuredText cells with a CSS class of its own."""
    lines = [f".. list-table::\n   :header-rows: 1\n   :class: {style}\n"]
    for row in [head, *rows]:
        for number, cell in enumerate(row):
            lines.append(("   * - " if number == 0 else "     - ") + " ".join(cell.split("\n")))
    return "\n".join(lines)


def write_pages(folder: Path, pages: Mapping[str, str]) -> None:
    """Make ``folder`` hold these pages and no others; a page that is as it was keeps its date."""
    for old in folder.rglob("*.*"):
        if old.is_file() and old.relative_to(folder).as_posix() not in pages:
            old.unlink()
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
