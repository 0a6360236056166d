"""How a plugin says what it is good for: which condition it treats, by which fragment of a pipeline, at what cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import PluginError

__all__ = ["Fragment", "Remedy"]

Fragment = Mapping[str, Any] | Callable[[Mapping[str, Any], tuple[int, ...]], Mapping[str, Any]]
"""Part of a pipeline, or what makes one of the whole pipeline and the collapsed units of its latent."""

LOWEST_RANK = 3


@dataclass(frozen=True)
class Remedy:
    """Something that treats a condition, as a fragment that is merged over a pipeline.

    Mappings are merged by key, unless their ``type`` differs: a component of another type takes the other's place, and
    keeps no more of it than its ``likelihood``. Of lists of components, an entry of a type that is there already is
    merged into it, any other is added.

    Args:
        name: Short name, unique in the plugin: letters, digits and underscores.
        treats: Names of the conditions that it treats, each with a rank: 1 where it was made for the condition, 2 where
            it works on it by way of something else, 3 where it may help.
        fragment: What is merged over the pipeline.
        why: Why it helps, in one sentence.
        cost: What it costs, in one sentence.
        slowdown: Time of a training step over that of the pipeline without it.
        source: Paper, with its address.
        needs: Values that the pipeline must have for it to apply, by path: ``{"model.prior.type": ("a", "b")}``.

    Raises:
        PluginError: A rank or a name is out of range.
    """

    name: str
    treats: Mapping[str, int]
    fragment: Fragment
    why: str
    cost: str
    source: str
    slowdown: float = 1.0
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name.replace("_", "").isalnum():
            raise PluginError(f"remedy {self.name!r}: a name has letters, digits and underscores only")
        for condition, rank in self.treats.items():
            if not 1 <= rank <= LOWEST_RANK:
                raise PluginError(f"remedy {self.name!r}: ranks are 1 to {LOWEST_RANK}, found {rank} for {condition!r}")
