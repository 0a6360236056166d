"""A page for every public module: the names of its ``__all__``, with their docstrings.

Public are ``uncollapse`` and the modules right below it; of another distribution the names that its package offers and
its pure functions, or, where the package offers none, the modules right below it. A name
that several modules offer is documented once, with a module rather than with a package's front door.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import pkgutil
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from uncollapse.config import ComponentConfig
from uncollapse.plugins import registry
from writing import heading, table, write_pages

if TYPE_CHECKING:
    from sphinx.application import Sphinx

FOLDER = "api"
_NOT_PUBLIC = {"cli", "commands", "builtin", "plugin", "plain_remedies", "known"}
"""The command line is documented by its commands, and what a plugin brings by the pages of components."""


@dataclass(frozen=True)
class PublicName:
    """A name of a public module.

    Args:
        module: The module that it is documented with.
        name: The name.
        value: What it stands for.
    """

    module: str
    name: str
    value: Any


@cache
def packages() -> tuple[str, ...]:
    """Return the core and the packages of all plugins that work."""
    homes = {plugin.distribution for plugin in registry().plugins if plugin.error is None}
    return tuple(sorted({p for p, of in packages_distributions().items() if homes.intersection(of)}))


@cache
def public_modules() -> tuple[str, ...]:
    """Return the names of all public modules that have an ``__all__``."""
    found = []
    for package in packages():
        below = [m.name for m in pkgutil.iter_modules(importlib.import_module(package).__path__)]
        offers = package != "uncollapse" and hasattr(importlib.import_module(package), "__all__")
        wanted = [n for n in below if not offers or n == "functional"]
        found += [package, *(f"{package}.{n}" for n in wanted if n not in _NOT_PUBLIC and not n.startswith("_"))]
    return tuple(n for n in found if hasattr(importlib.import_module(n), "__all__"))


@cache
def public_names() -> tuple[PublicName, ...]:
    """Return every public name once, with the module that documents it."""
    found: dict[str, PublicName] = {}
    # Modules before the package that offers the same names.
    for name in sorted(public_modules(), key=lambda n: (-n.count("."), n)):
        module = importlib.import_module(name)
        for public in module.__all__:
            value = getattr(module, public)
            if isinstance(value, ModuleType):
                continue
            documented = inspect.isclass(value) or is_function(value)
            key = f"{value.__module__}.{value.__qualname__}" if documented else f"{name}.{public}"
            found.setdefault(key, PublicName(name, public, value))
    return tuple(found.values())


def page_of(module: str) -> str:
    """Return the page of a module, reStructuredText."""
    mine = [p for p in public_names() if p.module == module]
    ours = [p for p in mine if p.value in registry().components() or _home(p).startswith("uncollapse")]
    parts = [heading(module, "="), f".. automodule:: {module}\n   :no-members:"]
    elsewhere = sorted(set(importlib.import_module(module).__all__) - {p.name for p in mine})
    if elsewhere:
        # A module has its own page, which is the target.
        parts += [_target(module, name) for name in elsewhere if f"{module}.{name}" not in public_modules()]
        homes = {p.name: p.module for p in public_names()}
        listed = (f":py:obj:`~{homes[n]}.{n}`" if n in homes else f":py:mod:`~{module}.{n}`" for n in elsewhere)
        parts.append(f"Also here: {', '.join(listed)}.")
    foreign = [p for p in mine if p not in ours]
    if foreign:
        listed = (f"``{p.name}`` (``{_home(p)}``)" for p in foreign)
        parts.append(f"Of other libraries: {', '.join(listed)}.")
    configs = [p for p in ours if p.value in registry().components()]
    classes = [p for p in ours if inspect.isclass(p.value) and p not in configs]
    functions = [p for p in ours if is_function(p.value)]
    for title, names, directive in (("Classes", classes, "autoclass"), ("Functions", functions, "autofunction")):
        if names:
            parts.append(heading(title, "-"))
            parts += [f".. {directive}:: {module}.{p.name}" for p in names]
    others = [p for p in ours if p not in (*functions, *configs, *classes)]
    if others:
        parts.append(heading("Data", "-"))
        parts += [
            f".. py:data:: {p.name}\n   :module: {module}\n\n   {docstring_of_data(module, p.name)}" for p in others
        ]
    if configs:
        parts.append(heading("Configs of components", "-"))
        # Targets for links in docstrings; what there is to say stands on the component's page.
        parts += [_target(module, p.name) for p in configs]
        parts.append(table(("config", "its page"), [(f"``{p.name}``", _of(p.value)) for p in configs], "uc-index"))
    return "\n\n".join(parts) + "\n"


def _target(module: str, name: str) -> str:
    """Return a place that links to ``module.name`` may lead to, without anything to read."""
    value = getattr(importlib.import_module(module), name)
    role = "class" if inspect.isclass(value) else "function" if is_function(value) else "data"
    return f".. py:{role}:: {name}\n   :module: {module}\n   :no-typesetting:"


def is_function(value: Any) -> bool:
    """Return whether a public name is a function, a cached one included."""
    return inspect.isroutine(value) or hasattr(value, "__wrapped__")


def docstring_of_data(module: str, name: str) -> str:
    """Return the string below the assignment of a module's constant, in one line; empty where there is none."""
    body = ast.parse(Path(str(importlib.import_module(module).__file__)).read_text(encoding="utf-8")).body
    for statement, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(statement, ast.ImportFrom) and any((a.asname or a.name) == name for a in statement.names):
            package = importlib.import_module(module).__package__ or ""
            home = importlib.util.resolve_name("." * statement.level + (statement.module or ""), package)
            return docstring_of_data(home, name)
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        if any(isinstance(t, ast.Name) and t.id == name for t in targets):
            said = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            return " ".join(str(following.value.value).split()) if said else ""  # type: ignore[union-attr]
    return ""


def _home(public: PublicName) -> str:
    """Return the module that defines a name; for data, which do not know it, the one that offers it."""
    knows = inspect.isclass(public.value) or is_function(public.value)
    return str(public.value.__module__) if knows else public.module


def _of(config: type[ComponentConfig]) -> str:
    """Return a link to a component's page."""
    return f":doc:`{config.type_name()} </components/{config.kind}/{config.type_name()}>`"


def pages() -> dict[str, str]:
    """Return every generated page by its path below the folder."""
    found = {f"{name}.rst": page_of(name) for name in public_modules()}
    rows = [
        (f":doc:`{name}`", (importlib.import_module(name).__doc__ or "").strip().split("\n\n")[0])
        for name in public_modules()
    ]
    intro = (
        "Public names, by module. A plugin may import these and nothing else. The vocabulary of shapes is that of "
        ":doc:`uncollapse.protocols`."
    )
    found["index.rst"] = "\n\n".join(
        [
            heading("Reference", "="),
            intro,
            table(("module", "what it holds"), rows, "uc-index"),
            ".. toctree::\n   :hidden:\n\n" + "\n".join(f"   {name}" for name in public_modules()),
        ]
    )
    return found


def _without_protocols(
    app: Sphinx, what: str, name: str, value: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    # What Python makes up for a protocol's constructor says nothing: nobody calls it.
    return ("", None) if what == "class" and getattr(value, "_is_protocol", False) else (signature, returns)


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the pages when a build starts."""
    app.connect("builder-inited", lambda app: write_pages(Path(app.srcdir) / FOLDER, pages()))
    app.connect("autodoc-process-signature", _without_protocols)
    return {"parallel_read_safe": True}
