"""From a YAML file and overrides to a validated pipeline, with errors that name their place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ..errors import ConfigError
from .explain import explain
from .pipeline import PipelineConfig

__all__ = ["dump_config", "load_config", "parse_config", "read_yaml"]


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML's safe loader, which also refuses a key given twice instead of keeping the last."""


def _construct_mapping(loader: _UniqueKeyLoader, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str | int | float | bool | None):
            raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key_node.start_mark)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is given twice", key_node.start_mark)
        seen.add(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=deep)


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises:
        ConfigError: The file is missing, unreadable, no YAML, names Python objects, or is not a mapping.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = sorted(p.name for p in path.parent.glob("*.y*ml"))[:5] if path.parent.is_dir() else []
        raise ConfigError(f"{path}: no such file" + (f"; in that folder: {', '.join(near)}" if near else "")) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read as a pipeline: {reason}") from error
    try:
        raw = yaml.load(text, _UniqueKeyLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "?"
        raise ConfigError(f"{path}: not valid YAML at {where}: {error.problem or error.context}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected a mapping with name, data, model …, found {type(raw).__name__}")
    return raw


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> PipelineConfig:
    """Return the validated pipeline of a YAML file.

    Args:
        path: The file.
        overrides: ``a.b.0.c=value`` each, the value in YAML; applied in order before validation.

    Raises:
        ConfigError: Every wrong place, one a line.
    """
    return parse_config(read_yaml(path), overrides, origin=str(path))


def parse_config(raw: Mapping[str, Any], overrides: Sequence[str] = (), origin: str = "pipeline") -> PipelineConfig:
    """Return the validated pipeline of a mapping; see :func:`load_config`."""
    data = deepcopy(dict(raw))
    for override in overrides:
        _apply(data, override)
    try:
        return PipelineConfig.model_validate(data)
    except ValidationError as error:
        lines = explain(error, data)
        count = f"{len(lines)} error{'s' if len(lines) > 1 else ''}"
        raise ConfigError("\n".join([f"{origin}: {count}", *(f"  {line}" for line in lines)])) from None


def dump_config(config: PipelineConfig) -> str:
    """Return the pipeline as YAML with every default filled in; loading it gives an equal pipeline."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)


def _apply(data: dict[str, Any], override: str) -> None:
    place, equals, text = override.partition("=")
    keys = place.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"--set {override}: expected path=value, training.epochs=10 say")
    try:
        value = yaml.load(text, _UniqueKeyLoader)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override}: the value is not valid YAML; quote it") from None
    node: Any = data
    for depth, key in enumerate(keys[:-1]):
        node = _descend(node, key, override, keys[: depth + 1], data)
    last = keys[-1]
    if isinstance(node, list):
        index = _index(node, last, override, ".".join(keys[:-1]))
        node[index] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise ConfigError(f"--set {override}: {'.'.join(keys[:-1])} is {node!r}, which has no field {last!r}")


def _descend(node: Any, key: str, override: str, so_far: list[str], data: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return node[_index(node, key, override, ".".join(so_far[:-1]))]
    if not isinstance(node, dict):
        raise ConfigError(f"--set {override}: {'.'.join(so_far[:-1])} is {node!r}, which has no field {key!r}")
    if isinstance(node.get(key), str) and so_far != ["name"]:
        # `prior: standard_normal` is short for a mapping; a field inside it needs the long form.
        node[key] = {"type": node[key]}
    if key not in node or node[key] is None:
        node[key] = _default_at(data, so_far)
    return node[key]


def _default_at(data: dict[str, Any], keys: list[str]) -> Any:
    # A field inside a part that the file leaves to its default starts from that default, so that
    # `--set training.optimizer.lr=1e-4` need not repeat the optimizer's type.
    try:
        resolved: Any = PipelineConfig.model_validate(data).model_dump(mode="json")
        for key in keys:
            resolved = resolved[int(key)] if isinstance(resolved, list) else resolved[key]
    except (ValidationError, KeyError, ValueError, IndexError, TypeError):
        return {}
    return resolved if isinstance(resolved, dict | list) else {}


def _index(node: list[Any], key: str, override: str, place: str) -> int:
    if not key.isdigit() or int(key) >= len(node):
        found = f"has {len(node)} entries" + (f", 0 to {len(node) - 1}" if node else "")
        raise ConfigError(f"--set {override}: {place} {found}; {key!r} is none of them")
    return int(key)
