"""What is installed: plugins, components, their fields, and the schema of pipelines."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..config.component import KINDS
from ..config.schema import component_schema, pipeline_schema
from ..files import write_atomically
from ..plugins import registry
from ..plugins.manager import DISABLE, PluginInfo

__all__ = ["describe", "list_plugins", "show_component", "write_schema"]


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
    kind = config.kind
    home = next(p for p in registry().plugins if (kind, config.type_name()) in p.components)
    console = Console(highlight=False)
    console.print(
        f"[bold]{escape(config.type_name())}[/bold]  {kind} of {escape(home.name)} "
        f"({escape(home.distribution)} {escape(home.version)})\n"
    )
    console.print(_plain(config.__doc__ or ""), markup=False)
    console.print()
    table = Table(title_justify="left")
    for heading in ("field", "allowed", "default", "meaning"):
        table.add_column(heading, overflow="fold")
    schema = component_schema(config)
    for field, info in config.model_fields.items():
        if field != "type":
            allowed = describe(schema.get("properties", {}).get(field, {}), schema.get("$defs", {}))
            table.add_row(field, escape(allowed), escape(_default(info)), escape(info.description or ""))
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


def describe(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Return in words what a JSON schema allows.

    >>> describe({"type": "integer", "exclusiveMinimum": 0}, {})
    'integer > 0'
    >>> describe({"anyOf": [{"enum": ["a", "b"]}, {"type": "null"}]}, {})
    'a, b or null'
    """
    if "x-uncollapse-kind" in schema:
        return ("number or " if schema.get("x-number") else "") + str(schema["x-uncollapse-kind"]).replace("_", " ")
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(describe(s, definitions) for s in schema[several]))
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _section(definitions.get(name, {}), definitions)
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return ", ".join(str(value) for value in schema["enum"])
    if schema.get("type") == "array":
        return _array(schema, definitions)
    words = str(schema.get("type", "anything"))
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {schema[key]}" for key, sign in signs.items() if key in schema]
    return " ".join([words, " and ".join(bounds)]) if bounds else words


def _array(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if "prefixItems" in schema:
        return f"[{', '.join(describe(item, definitions) for item in schema['prefixItems'])}]"
    return f"list of {describe(schema.get('items', {}), definitions)}"


def _section(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if "properties" not in schema:
        return describe(schema, definitions)
    fields = (f"{name}: {describe(field, definitions)}" for name, field in schema["properties"].items())
    return f"{{{', '.join(fields)}}}"


def _plain(docstring: str) -> str:
    """Return a docstring with one line a paragraph, and without markup for literals."""
    paragraphs = inspect.cleandoc(docstring).replace("``", "").split("\n\n")
    return "\n\n".join(" ".join(p.split()) for p in paragraphs)


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "(required)"
    value = info.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return value if isinstance(value, str) else json.dumps(value, default=str)
