"""What a part can do besides: optional protocols, told by what the part defines, however it is stored."""

from __future__ import annotations

from functools import cache
from inspect import get_annotations
from typing import Any, TypeGuard, TypeVar

from torch import nn

from .errors import PluginError

__all__ = ["supports"]

T = TypeVar("T")


def supports(part: object, capability: type[T]) -> TypeGuard[T]:
    """Return whether a part defines everything that a protocol asks for.

    ``isinstance`` would look for it in the class since Python 3.12, and not find a module's submodules and parameters.

    Args:
        part: Any object.
        capability: A protocol of :mod:`uncollapse.protocols`.

    Raises:
        PluginError: The part defines some of what the protocol asks for and not the rest, so it would be passed over.
    """
    wanted = _members(capability)  # type: ignore[arg-type]
    lacking = {name for name in wanted if not hasattr(part, name)}
    # Every module has a state; only what is the protocol's own tells that it was meant.
    there = wanted - lacking - set(dir(nn.Module))
    if lacking and there:
        raise PluginError(
            f"{type(part).__name__} defines {', '.join(sorted(there))} and not {', '.join(sorted(lacking))}; for "
            f"{capability.__name__} it needs all of them, else none"
        )
    return not lacking


@cache
def _members(capability: Any) -> frozenset[str]:
    own = [c for c in capability.__mro__ if getattr(c, "_is_protocol", False)]
    return frozenset(n for c in own for n in (*vars(c), *get_annotations(c)) if not n.startswith("_"))
