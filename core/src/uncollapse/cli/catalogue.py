"""What is installed: plugins, components, their fields, and the schema of pipelines."""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..config.describe import describe_fields
from ..config.schema import pipeline_schema
from ..files import write_atomically
from ..kinds import KINDS
from ..plugins import registry
from ..plugins.manager import DISABLE, PluginInfo

__all__ = ["list_plugins", "show_component", "write_schema"]


def list_plugins() -> None:
    """Print every plugin with its components."""
    console = Console(highlight=False)
    for plugin in registry().plugins:
        console.print(f"[bold]{escape(plugin.name)}[/bold]  {escape(plugin.distribution)} {escape(plugin.version)}")
        if plugin.error is not None:
            console.print(f"  [bold red]broken[/bold red]: {escape(plugin.error)}", soft_wrap=True)
        elif plugin.disabled:
            console.print(f"  [yellow]switched off[/yellow] by the environment variable {DISABLE}", soft_wrap=True)
        else:
            console.print(_components(plugin))
        for deprecation in plugin.deprecations:
            console.print(f"  [yellow]deprecated[/yellow]: {escape(str(deprecation))}", soft_wrap=True)


def _components(plugin: PluginInfo) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    for kind in KINDS:
        names = sorted(name for k, name in plugin.components if k == kind)
        if names:
            table.add_row(f"  {kind}", escape(", ".join(names)))
    return table


def show_component(name: str) -> None:
    """Print a component's kind, home, docstring and fields.

    Raises:
        PluginError: No installed component has this name, or several have.
    """
    config = registry().get(name)
    home = registry().home(config)
    console = Console(highlight=False)
    console.print(
        f"[bold]{escape(config.type_name())}[/bold]  {config.kind} of {escape(home.name)} "
        f"({escape(home.distribution)} {escape(home.version)})\n"
    )
    console.print(_plain(config.__doc__ or ""), markup=False)
    console.print()
    table = Table(title_justify="left")
    for heading in ("field", "allowed", "default", "meaning"):
        table.add_column(heading, overflow="fold")
    for field in describe_fields(config):
        table.add_row(field.name, escape(field.allowed), escape(field.default), escape(field.meaning))
    if table.row_count:
        console.print(table)
    else:
        console.print("It has no fields.")


def write_schema(output: Path | None) -> None:
    """Write the JSON schema of pipelines to a file or to stdout."""
    text = json.dumps(pipeline_schema(), indent=2, ensure_ascii=False) + "\n"
    if output is None:
        sys.stdout.write(text)
    else:
        write_atomically(output, text)
        Console(highlight=False).print(
            f"Written to {output}. Editors with a YAML language server read it from a first line such as\n"
            f"# yaml-language-server: $schema={output}",
            soft_wrap=True,
            markup=False,
        )


def _plain(docstring: str) -> str:
    """Return a docstring with one line a paragraph, and without markup for literals."""
    paragraphs = inspect.cleandoc(docstring).replace("``", "").split("\n\n")
    return "\n\n".join(" ".join(p.split()) for p in paragraphs)
