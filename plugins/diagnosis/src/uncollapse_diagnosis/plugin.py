"""What the distribution brings; each part is imported when a pipeline names it."""

from __future__ import annotations

from uncollapse.findings import Condition
from uncollapse.plugins import Lazy, Remedy, hookimpl

from .conditions import CONDITIONS
from .plain_remedies import REMEDIES

__all__ = ["uncollapse_components", "uncollapse_conditions", "uncollapse_remedies"]

uncollapse_api_version = 1


@hookimpl
def uncollapse_components() -> list[Lazy]:
    """Return the parts."""
    return [
        Lazy("observer", "watch", "uncollapse_diagnosis.observers.watch:WatchConfig"),
    ]


@hookimpl
def uncollapse_conditions() -> tuple[Condition, ...]:
    """Return what can be wrong with a model besides a collapse."""
    return CONDITIONS


@hookimpl
def uncollapse_remedies() -> list[Remedy]:
    """Return what the parts of all distributions but the papers' are good for."""
    return REMEDIES
