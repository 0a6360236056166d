"""Pages that live beside what they describe, the READMEs of plugins and examples, and links into the repository.

A relative link is written for the place where its file lies, so that it works on the web page of the repository; here
it is turned to the page that the target has in the documentation, or to the file itself.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from writing import write_pages

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SHELVES = {"remedies": "plugins", "experiments": "examples"}
"""Folders of the documentation, and the folders of the repository whose READMEs they show."""

_LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")


def readmes(shelf: str) -> dict[str, Path]:
    """Return the READMEs of a shelf by the name of the folder that they describe."""
    return {p.parent.name: p for p in sorted((ROOT / SHELVES[shelf]).glob("*/README.md")) if p.read_text("utf-8")}


def page_for(target: Path) -> Path | None:
    """Return the page, below ``docs``, that shows a file or folder of the repository; None where it has none."""
    if target == ROOT / "README.md":
        return DOCS / "index.md"
    for shelf, folder in SHELVES.items():
        if target == ROOT / folder:
            return DOCS / shelf / "index.md"
        inside = target.parent if target.name == "README.md" else target
        if inside.parent == ROOT / folder and inside.name in readmes(shelf):
            return DOCS / shelf / f"{inside.name}.md"
    return target if target.is_relative_to(DOCS) else None


def relink(text: str, origin: Path, page: Path) -> str:
    """Return Markdown written for ``origin`` with its relative links made right for ``page``.

    Raises:
        FileNotFoundError: A link leads nowhere.
    """

    def changed(match: re.Match[str]) -> str:
        before, link, anchor, after = match.groups()
        if re.match(r"[a-z]+:", link):
            return match.group()
        target = (origin.parent / link).resolve()
        if not target.exists():
            raise FileNotFoundError(f"{origin.relative_to(ROOT)}: the link {link!r} leads nowhere")
        shown = page_for(target) or target
        return f"{before}{os.path.relpath(shown, page.parent)}{anchor or ''}{after}"

    return _LINK.sub(changed, text)


def shelf_pages(shelf: str) -> dict[str, str]:
    """Return the pages of a shelf by file name, a front page among them."""
    found = {f"{n}.md": relink(p.read_text("utf-8"), p, DOCS / shelf / f"{n}.md") for n, p in readmes(shelf).items()}
    titles = {
        "remedies": "# Remedies\n\nEach is a package of its own, and this is its README.",
        "experiments": "# Experiments of the papers\n\nPipelines in `examples/`, each with a form that two CPU cores "
        "train in minutes.",
    }
    listing = "\n".join(Path(name).stem for name in found)
    found["index.md"] = f"{titles[shelf]}\n\n```{{toctree}}\n:maxdepth: 1\n\n{listing}\n```\n"
    return found


def _read(app: Sphinx, docname: str, source: list[str]) -> None:
    path = DOCS / f"{docname}.md"
    if path.exists() and docname.partition("/")[0] not in SHELVES:
        source[0] = relink(source[0], path, path)


def _write(app: Sphinx) -> None:
    for shelf in SHELVES:
        write_pages(DOCS / shelf, shelf_pages(shelf))


def setup(app: Sphinx) -> dict[str, bool]:
    """Copy the READMEs when a build starts, and turn links when a page is read."""
    app.connect("builder-inited", _write)
    app.connect("source-read", _read)
    return {"parallel_read_safe": True}
