"""Observers: what looks on while a model trains."""

from .watch import CollapseWarning, CollapseWatch, Watch, WatchConfig

__all__ = ["COMPONENTS", "CollapseWarning", "CollapseWatch", "Watch"]

COMPONENTS = (WatchConfig,)
"""Configs that the core registers from this folder."""
