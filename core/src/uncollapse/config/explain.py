"""Validation errors in words: the place, what was found, what is allowed, and the likely fix."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from ..errors import did_you_mean
from ..plugins import registry
from .installed import Installed
from .pipeline import PipelineConfig

__all__ = ["explain"]


def explain(error: ValidationError, data: Mapping[str, Any], root: type[BaseModel] = PipelineConfig) -> list[str]:
    """Return one line for every wrong place of ``data``, ``path: what is wrong``, in the order of the file.

    Args:
        error: What pydantic found.
        data: What was validated.
        root: The model that validated it: a whole pipeline, or one component.
    """
    lines: dict[str, list[str]] = {}
    for item in error.errors(include_url=False):
        path, owner = _place(item["loc"], data, root)
        message = _message(dict(item), path, owner)
        # A validator of the whole pipeline names the place itself.
        where = ".".join(str(p) for p in path)
        messages = lines.setdefault(where, [])
        if message not in messages:
            messages.append(message)
    return [f"{where}: {_joined(messages)}" if where else _joined(messages) for where, messages in lines.items()]


def _joined(messages: list[str]) -> str:
    # The branches of a union each say what they would have accepted; what was found is the same for all.
    if len(messages) == 1:
        return messages[0]
    found = messages[0].rpartition(", found ")[2]
    return " or ".join(m.rpartition(", found ")[0] or m for m in messages) + f", found {found}"


def _place(
    loc: tuple[int | str, ...], data: Any, root: type[BaseModel]
) -> tuple[list[int | str], type[BaseModel] | None]:
    """Return the path within the file, without the names of union branches, and the model that owns its last field."""
    path: list[int | str] = []
    model: type[BaseModel] | None = root
    owner: type[BaseModel] | None = root
    field: FieldInfo | None = None
    for part in loc:
        if isinstance(part, int) and isinstance(data, list | tuple):
            path.append(part)
            data = data[part] if part < len(data) else None
            model = _model_of(field, data) if field is not None else None
            continue
        known = model is not None and isinstance(part, str)
        if not known or not (
            model is not None and (part in model.model_fields or (isinstance(data, Mapping) and part in data))
        ):
            break
        owner = model
        path.append(part)
        field = model.model_fields.get(str(part)) if model is not None else None
        data = data.get(part) if isinstance(data, Mapping) else None
        model = _model_of(field, data) if field is not None else None
    return path, owner


def _model_of(field: FieldInfo, value: Any) -> type[BaseModel] | None:
    """Return the model that validates ``value`` in ``field``: a section, or the component that its type names."""
    for item in [*field.metadata, *_nested_metadata(field.annotation)]:
        if isinstance(item, Installed):
            name = value.get("type") if isinstance(value, Mapping) else value
            return registry().find(item.kind, name) if isinstance(name, str) else None
    for candidate in [field.annotation, *get_args(field.annotation)]:
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _nested_metadata(annotation: Any) -> list[Any]:
    found: list[Any] = list(getattr(annotation, "__metadata__", ()))
    for argument in get_args(annotation):
        found.extend(_nested_metadata(argument))
    return found


def _message(item: dict[str, Any], path: list[int | str], owner: type[BaseModel] | None) -> str:
    kind, found = item["type"], item.get("input")
    if kind == "extra_forbidden":
        allowed = [] if owner is None else list(owner.model_fields)
        return f"unknown field{did_you_mean(str(path[-1]), allowed)}; allowed: {', '.join(allowed)}"
    if kind == "missing":
        return "required, but missing"
    if kind.startswith("component_"):
        return str(item["msg"])
    message = str(item["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = message.replace("Input should be", "expected").replace("a valid tuple", "a list")
    message = re.sub(r"^Tuple should have (.*) items? after validation, not \d+$", r"expected \1 of them", message)
    if kind == "value_error":
        return message
    return f"{message}, found {_short(found)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
