"""Merging a remedy's fragment over a pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

__all__ = ["merged"]


def merged(base: Mapping[str, Any], fragment: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``fragment`` merged over it, as :class:`uncollapse.plugins.Remedy` says.

    >>> merged({"objective": {"type": "elbo", "samples": 2}, "regularizers": [{"type": "a.b"}]},
    ...        {"objective": {"type": "iwae"}, "regularizers": [{"type": "c.d"}]})
    {'objective': {'type': 'iwae'}, 'regularizers': [{'type': 'a.b'}, {'type': 'c.d'}]}
    """
    result = deepcopy(dict(base))
    for key, value in fragment.items():
        result[key] = _over(result.get(key), value)
    return result


def _over(old: Any, new: Any) -> Any:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        if "type" not in new or new["type"] == old.get("type"):
            return merged(old, new)
        # What the data are scored by is no matter of which decoder it is.
        likelihood = {"likelihood": old["likelihood"]} if "likelihood" in old else {}
        return deepcopy({**likelihood, **new})
    if isinstance(new, list | tuple) and new and all(isinstance(entry, Mapping) for entry in new):
        result = [deepcopy(entry) for entry in old or ()]
        for entry in new:
            same = [i for i, there in enumerate(result) if isinstance(there, Mapping) and _type(there) == _type(entry)]
            if same:
                result[same[0]] = _over(result[same[0]], entry)
            else:
                result.append(deepcopy(dict(entry)))
        return result
    return deepcopy(new)


def _type(entry: Mapping[str, Any]) -> Any:
    return entry.get("type")
