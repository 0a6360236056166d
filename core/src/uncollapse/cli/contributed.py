"""Commands that other distributions bring, found by metadata: entry points of the group ``uncollapse.commands``.

An entry point is named for its command and leads to a function whose parameters carry typer's annotations, or to a
``typer.Typer`` with commands of its own. Its module is imported for every command line, also for ``--help``, so it
imports typer and nothing heavy; what the command does is imported inside the function.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from typing import Any

import typer

__all__ = ["GROUP", "contribute"]

GROUP = "uncollapse.commands"
"""Group of the entry points that lead to commands."""

_DISABLE = "UNCOLLAPSE_DISABLE_PLUGINS"


def contribute(app: typer.Typer) -> None:
    """Add every contributed command to ``app``, once.

    One that cannot be loaded, or whose name is taken, is listed with the reason and takes nothing else down.
    """
    added: set[EntryPoint] = app.__dict__.setdefault("_contributed", set())
    taken = {_name(command) for command in app.registered_commands} | {group.name for group in app.registered_groups}
    points = sorted(entry_points(group=GROUP), key=lambda p: (p.name, p.value))
    for point in points:
        if point in added or _switched_off(point):
            continue
        added.add(point)
        if point.name in taken:
            # Said on the command line's own help, where its author looks for it first.
            note = f"{_home(point)} also brings a command {point.name!r}, which is taken; it must take another name."
            before = app.info.epilog if isinstance(app.info.epilog, str) else None
            app.info.epilog = "\n\n".join(filter(None, [before, note]))
            continue
        taken.add(point.name)
        try:
            command = point.load()
        except (Exception, SystemExit) as error:
            _add_broken(app, point, f"importing {point.value} raised {type(error).__name__}: {error}")
            continue
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=point.name)
        elif callable(command):
            app.command(point.name)(command)
        else:
            _add_broken(app, point, f"{point.value} is no function and no typer.Typer: {type(command).__name__}")

    known = json.loads((files(__package__.partition(".")[0]) / "plugins" / "unprefixed.json").read_text("utf-8"))
    for plugin, kinds in known.items():
        for name in set(kinds.get("command", ())) - taken - {point.name for point in points}:
            taken.add(name)
            missing = f"{name} is not installed: it is part of uncollapse-{plugin}; pip install 'uncollapse[{plugin}]'"
            _add_failing(app, name, missing, hidden=True)


def _add_broken(app: typer.Typer, point: EntryPoint, reason: str) -> None:
    message = f"the command {point.name!r} of {_home(point)} is broken: {reason}"
    _add_failing(app, point.name, message, help=f"(broken: {reason})")


def _add_failing(app: typer.Typer, name: str, message: str, **options: Any) -> None:
    def failing() -> None:
        from ..errors import PluginError

        raise PluginError(message)

    # Whatever options it was given, the answer is the reason.
    settings = {"ignore_unknown_options": True, "allow_extra_args": True}
    app.command(name, context_settings=settings, **options)(failing)


def _switched_off(point: EntryPoint) -> bool:
    names = {n.strip() for n in os.environ.get(_DISABLE, "").split(",") if n.strip()}
    if not names or point.dist is None:
        return "all" in names
    # A command goes with the plugin of its distribution.
    return "all" in names or any(p.group == "uncollapse" and p.name in names for p in point.dist.entry_points)


def _home(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value


def _name(command: Any) -> str:
    callback: Callable[..., Any] = command.callback
    return command.name or callback.__name__.replace("_", "-")
