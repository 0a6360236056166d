"""JSON schema of pipeline files, for editors: completion, descriptions and errors while one types."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.json_schema import PydanticJsonSchemaWarning, models_json_schema

from ..component import ComponentConfig
from ..kinds import KINDS
from ..plugins import registry
from .pipeline import PipelineConfig

__all__ = ["component_schema", "pipeline_schema"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_MARK, _NUMBER = "x-uncollapse-kind", "x-number"


def pipeline_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a pipeline file, with every installed component.

    A field that takes a component refers to ``#/$defs/kind.<kind>``, which is one of the installed components of that
    kind, or the bare name of one that needs no fields.
    """
    components = registry().components()
    describable = [c for c in components if _describable(c)]
    models: list[type[BaseModel]] = [PipelineConfig, *describable]
    with _quiet():
        references, schema = models_json_schema([(model, "validation") for model in models])
    definitions: dict[str, Any] = schema["$defs"]
    for config in describable:
        # A type has a default, so pydantic does not require it; in a file it is what tells components apart.
        definition = definitions[references[config, "validation"]["$ref"].rpartition("/")[2]]
        definition["required"] = ["type", *(n for n in definition.get("required", ()) if n != "type")]
    for kind in KINDS:
        of_kind = [c for c in components if c.kind == kind]
        bare = [c.type_name() for c in of_kind if not _needs_fields(c)]
        choices = [references[c, "validation"] if c in describable else _opaque(c) for c in of_kind]
        choices_of_kind = [*([{"enum": bare}] if bare else []), *choices]
        # Of a kind that nobody brings, nothing is valid.
        definitions[f"kind.{kind}"] = {"oneOf": choices_of_kind} if choices_of_kind else {"not": {}}
    pipeline = definitions.pop("PipelineConfig")
    linked: dict[str, Any] = _link({**pipeline, "$defs": definitions})
    return {"$schema": _DIALECT, **linked, "title": "uncollapse pipeline"}


def component_schema(config: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of one component, or of a section; fields that take a component carry
    ``x-uncollapse-kind``.
    """
    with _quiet():
        return config.model_json_schema() if _describable(config) else _opaque(config)


def _describable(config: type[BaseModel]) -> bool:
    # A stranger's component may have a field that JSON schema cannot express; the others must keep theirs.
    try:
        with _quiet():
            config.model_json_schema()
    except PydanticInvalidForJsonSchema:
        return False
    return True


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave defaults out that JSON cannot hold, without a warning for each."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PydanticJsonSchemaWarning)
        yield


def _opaque(config: type[BaseModel]) -> dict[str, Any]:
    if not issubclass(config, ComponentConfig):
        return {"type": "object"}
    return {"type": "object", "properties": {"type": {"const": config.type_name()}}, "required": ["type"]}


def _needs_fields(config: type[ComponentConfig]) -> bool:
    return any(field.is_required() for name, field in config.model_fields.items() if name != "type")


def _link(node: Any) -> Any:
    """Replace the marks of fields that take a component by references to its kind."""
    if isinstance(node, list):
        return [_link(item) for item in node]
    if not isinstance(node, dict):
        return node
    if _MARK not in node:
        return {key: _link(value) for key, value in node.items()}
    rest = {key: value for key, value in node.items() if key not in (_MARK, _NUMBER)}
    reference = {"$ref": f"#/$defs/kind.{node[_MARK]}"}
    if node.get(_NUMBER):
        return {**rest, "oneOf": [{"type": "number"}, reference]}
    return {**rest, **reference}
