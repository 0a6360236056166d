"""Configs in words: what a field allows, its default and its meaning, for the command line and the documentation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from .schema import component_schema

__all__ = ["FieldDescription", "describe", "describe_fields", "sections_of"]


@dataclass(frozen=True)
class FieldDescription:
    """One field of a config, in words.

    Args:
        name: The field's name.
        allowed: What it takes, with bounds.
        default: Its default as JSON, a word as it is; ``(required)`` where there is none.
        meaning: The field's description.
    """

    name: str
    allowed: str
    default: str
    meaning: str


def describe_fields(config: type[BaseModel]) -> list[FieldDescription]:
    """Return the fields of a component's config, or of a section of one, without ``type``.

    >>> from uncollapse.schedules.schedules import ConstantScheduleConfig
    >>> [(field.name, field.allowed, field.default) for field in describe_fields(ConstantScheduleConfig)]
    [('value', 'number', '(required)')]
    """
    schema = component_schema(config)
    properties, definitions = schema.get("properties", {}), schema.get("$defs", {})
    return [
        FieldDescription(name, describe(properties.get(name, {}), definitions), _default(info), info.description or "")
        for name, info in config.model_fields.items()
        if name != "type"
    ]


def sections_of(config: type[BaseModel]) -> list[type[BaseModel]]:
    """Return the models that fields of ``config`` are made of, and theirs, each once; components are none of them."""
    found: dict[type[BaseModel], None] = {}
    for info in config.model_fields.values():
        for inner in _models_in(info.annotation):
            found[inner] = None
            found.update(dict.fromkeys(sections_of(inner)))
    return list(found)


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


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "(required)"
    value = info.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return value if isinstance(value, str) and value else json.dumps(value, default=str, ensure_ascii=False)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        # An abstract component stands for any installed one of its kind, which has a place of its own.
        return [] if hasattr(annotation, "type_name") else [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]
