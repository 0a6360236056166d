"""Public names that are imported when first used, so that the command line answers ``--help`` without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["lazily"]


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a package's ``__getattr__`` (PEP 562), which imports a name from the submodule that holds it.

    Args:
        package: The package's ``__name__``.
        homes: For each public name the submodule, relative to the package.
    """

    def load(name: str) -> Any:
        if name in homes:
            return getattr(import_module(f".{homes[name]}", package), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return load
