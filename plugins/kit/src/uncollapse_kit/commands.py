"""The commands ``uncollapse new-plugin`` and ``check``: their options. What they do is imported when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .scaffold import Kind

__all__ = ["check", "new_plugin"]


def new_plugin(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the plugin: my-norm.", show_default=False)],
    kind: Annotated[Kind, typer.Option(metavar="KIND", help=f"Kind of component: {', '.join(Kind)}.")],
    path: Annotated[Path, typer.Option(metavar="DIR", help="Where its folder is made.")] = Path(),
    component: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the component in pipelines; by default its kind's.")
    ] = None,
) -> None:
    """Write a new plugin with a working component: code, tests, a pipeline, README and licence."""
    from .authors import new_plugin as write

    write(name, kind.value, path, component)


def check(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A plugin, a distribution, or a component's type.", show_default=False)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Run the conformance kit over an installed plugin, or over one component; exit with 1 if something fails."""
    from uncollapse_kit.authors import check as run_kit

    if not run_kit(name, as_json=as_json):
        raise typer.Exit(1)
