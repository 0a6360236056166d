"""What of the plugin API is deprecated, and who still uses it: found in the plugin's source, reported at its line.

The policy itself, what counts as public and how long deprecations last, is ``docs/plugin_api.md``.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..component import ComponentConfig

__all__ = ["API", "API_VERSION", "DeprecatedMember", "Deprecation", "PluginAPI", "RenamedHook"]

VERSION_NAME = "uncollapse_api_version"


@dataclass(frozen=True)
class RenamedHook:
    """A hook that has another name now; plugins that implement the old one are called all the same.

    Args:
        old: Name until now.
        new: Name from now on.
        until: First version of uncollapse that no longer knows the old one.
    """

    old: str
    new: str
    until: str


@dataclass(frozen=True)
class DeprecatedMember:
    """A field, attribute or method that component configs of one kind should no longer define.

    Args:
        kind: Kind of component.
        name: What plugins define.
        instead: What they should do instead.
        until: First version of uncollapse that ignores it.
    """

    kind: str
    name: str
    instead: str
    until: str


@dataclass(frozen=True)
class PluginAPI:
    """A version of the plugin API, and what it still accepts.

    Args:
        version: The version, which plugins state.
        older: Older versions that plugins may state, each with the first version of uncollapse that refuses it.
        hooks: Hooks by another name.
        members: What configs should no longer define.
    """

    version: int
    older: Mapping[int, str] = field(default_factory=dict)
    hooks: tuple[RenamedHook, ...] = ()
    members: tuple[DeprecatedMember, ...] = ()


API = PluginAPI(version=1)
"""What this uncollapse offers. A deprecation is an entry here, and a line of the table in ``docs/plugin_api.md``."""

API_VERSION = API.version
"""Version of the plugin API. A plugin module states the one it was written for as ``uncollapse_api_version``."""


@dataclass(frozen=True)
class Deprecation:
    """One use of something deprecated.

    Args:
        message: What is used, what to write instead, and when it stops working.
        file: File of the plugin's author, or the module's name where there is no source.
        line: Its line, from 1.
    """

    message: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"

    def warn(self) -> None:
        """Issue a ``DeprecationWarning`` that points at the author's line."""
        warnings.warn_explicit(self.message, DeprecationWarning, self.file, self.line)


def renamed_hooks(module: object, project: str, api: PluginAPI) -> list[RenamedHook]:
    """Return the hooks that a plugin implements by their old names alone; with both it fits old and new uncollapse."""

    def implements(name: str) -> bool:
        return hasattr(getattr(module, name, None), f"{project}_impl")

    return [h for h in api.hooks if implements(h.old) and not implements(h.new)]


def deprecations(
    module: object, configs: Iterable[type[ComponentConfig]], project: str, api: PluginAPI
) -> list[Deprecation]:
    """Return every use of something deprecated in a plugin, with the place in its source.

    Args:
        module: The plugin.
        configs: Component configs that it declares.
        project: Name that pluggy's marks carry.
        api: What is deprecated.
    """
    found = []
    stated = getattr(module, VERSION_NAME, None)
    if isinstance(stated, int) and stated in api.older:
        found.append(
            Deprecation(
                f"plugin API {stated} is deprecated and will be refused from uncollapse {api.older[stated]} on; move "
                f"to {api.version} (docs/plugin_api.md says what changed) and set {VERSION_NAME} = {api.version}",
                *_place(module, VERSION_NAME),
            )
        )
    for hook in renamed_hooks(module, project, api):
        found.append(
            Deprecation(
                f"the hook {hook.old} is now {hook.new}; the old name stops working in uncollapse {hook.until}",
                *_place(getattr(module, hook.old)),
            )
        )
    return found + member_deprecations(configs, api)


def member_deprecations(configs: Iterable[type[ComponentConfig]], api: PluginAPI) -> list[Deprecation]:
    """Return every deprecated member that component configs define, with the place in their source.

    Args:
        configs: Component configs of a plugin.
        api: What is deprecated.
    """
    found = []
    for config in configs:
        for member in api.members:
            owner = _owner(config, member.name) if config.kind == member.kind else None
            if owner is not None:
                found.append(
                    Deprecation(
                        f"{config.__qualname__}.{member.name} is deprecated and will be ignored from uncollapse "
                        f"{member.until} on; {member.instead}",
                        *_place(owner, member.name),
                    )
                )
    return found


def _owner(config: type[ComponentConfig], name: str) -> type | None:
    """Return the class of the plugin's that defines ``name``, or None where only the core does, or nobody."""
    core = __name__.partition(".")[0]
    for cls in config.__mro__:
        if cls.__module__.partition(".")[0] != core and (name in vars(cls) or name in inspect.get_annotations(cls)):
            return cls
    return None


def _place(thing: Any, name: str | None = None) -> tuple[str, int]:
    """Return file and line of a function, or of where a class or module assigns or defines ``name``."""
    try:
        file = inspect.getsourcefile(thing) or inspect.getfile(thing)
        lines, first = inspect.getsourcelines(thing)
    except (OSError, TypeError):
        return str(getattr(thing, "__module__", None) or getattr(thing, "__name__", thing)), 1
    # Of a module the first line is said to be 0.
    first = max(first, 1)
    return file, first if name is None else first + _offset(lines, name)


def _offset(lines: list[str], name: str) -> int:
    """Return how far below its first line a class or module defines ``name``; 0 where it is made in another way."""
    body = ast.parse(textwrap.dedent("".join(lines))).body
    if len(body) == 1 and isinstance(body[0], ast.ClassDef):
        body = body[0].body
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        named = [t.id for t in targets if isinstance(t, ast.Name)] + [getattr(node, "name", None)]
        if name in named:
            return node.lineno - 1
    return 0
