"""Observers: what looks on while a model trains."""

from .watch import CollapseWarning, CollapseWatch, Watch, WatchConfig

__all__ = [
    "CollapseWarning",
    "CollapseWatch",
    "Watch",
    "WatchConfig",
]
