"""The structure of the sources, read without running them: modules, what they import in every way, circles, floors."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["ROOT", "Import", "Sources", "circles", "distributions", "floors", "upward"]

ROOT = Path(__file__).resolve().parent.parent

_PATH = re.compile(r"[A-Za-z_]\w*(\.\w+)+(:\w+)?")


@dataclass(frozen=True)
class Import:
    """One import: ``name`` of ``module``, found in ``source`` at ``line``; ``name`` is empty for a whole module."""

    source: str
    line: int
    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: from {self.module} import {self.name or '*'}"


class Sources:
    """The modules below some folders of sources.

    Args:
        roots: Folders that hold packages, ``core/src`` say.
    """

    def __init__(self, roots: Iterable[Path]) -> None:
        self.paths: dict[str, Path] = {}
        for root in roots:
            for path in sorted(root.rglob("*.py")):
                parts = path.relative_to(root).with_suffix("").parts
                self.paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path

    def imports(self) -> Iterator[Import]:
        """Yield every import: at the top, for type checkers only, inside functions, and written as a string."""
        for module, path in self.paths.items():
            yield from self._imports_of(module, path)

    def reached(self, found: Import) -> str | None:
        """Return the module of ours that an import reaches: ``from .. import files`` reaches ``uncollapse.files``."""
        whole = f"{found.module}.{found.name}"
        if found.name and whole in self.paths:
            return whole
        return found.module if found.module in self.paths else None

    def graph(self) -> dict[str, set[str]]:
        """Return for every module those that it imports.

        A package's names are those of its modules, so that its own modules may be imported by it without a circle, and
        only a module that asks the package itself for something depends on all that the package imports.
        """
        edges: dict[str, set[str]] = {module: set() for module in self.paths}
        for found in self.imports():
            target = self.reached(found)
            if target is not None and target != found.source:
                edges[found.source].add(target)
        return edges

    def _imports_of(self, module: str, path: Path) -> Iterator[Import]:
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(module, node.lineno, alias.name, "")
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    above = package.split(".")[: len(package.split(".")) - node.level + 1]
                    base = ".".join([*above, *([base] if base else [])])
                for alias in node.names:
                    yield Import(module, node.lineno, base, alias.name)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _PATH.fullmatch(node.value):
                written, _, name = node.value.partition(":")
                if written in self.paths:
                    yield Import(module, node.lineno, written, name)


def circles(edges: Mapping[str, set[str]]) -> list[list[str]]:
    """Return every set of modules that import each other in a circle (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for target in sorted(edges[module]):
            if target not in index:
                visit(target)
                low[module] = min(low[module], low[target])
            elif target in stack:
                low[module] = min(low[module], index[target])
        if low[module] == index[module]:
            component = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(component) > 1:
                found.append(sorted(component))

    for module in edges:
        if module not in index:
            visit(module)
    return found


def floor_of(module: str, floors: list[list[str]]) -> int | None:
    """Return on which floor a module stands: that of the longest name that it lies in."""
    named = [
        (len(name), number)
        for number, names in enumerate(floors)
        for name in names
        if module == name or (module.startswith(f"{name}.") and name.count("."))
    ]
    return max(named)[1] if named else None


def upward(sources: Sources, floors: list[list[str]]) -> list[str]:
    """Return the imports of a module on a higher floor, and the modules that stand on none."""
    wrong = [f"{m}: on no floor" for m in sources.paths if floor_of(m, floors) is None]
    for found in sources.imports():
        target = sources.reached(found)
        here, there = floor_of(found.source, floors), floor_of(target, floors) if target else None
        if here is not None and there is not None and there > here:
            wrong.append(f"{found} (floor {here} imports from floor {there})")
    return wrong


@cache
def floors() -> dict[str, list[list[str]]]:
    """Return the table of floors."""
    return tomllib.loads((ROOT / "tests" / "floors.toml").read_text(encoding="utf-8"))


@cache
def distributions() -> dict[str, tuple[Path, tuple[str, ...]]]:
    """Return for every package of this repository its sources, and the packages that its distribution depends on."""
    found = {}
    for project in (ROOT / "core", *sorted((ROOT / "plugins").iterdir())):
        if (project / "pyproject.toml").exists():
            described = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
            needs = [re.split(r"[^\w-]", d)[0].replace("-", "_") for d in described.get("dependencies", ())]
            ours = tuple(n for n in needs if n == "uncollapse" or n.startswith("uncollapse_"))
            found[described["name"].replace("-", "_")] = (project / "src", ours)
    return found
