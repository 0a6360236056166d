"""Training: the loop, its state, optimizers, checkpoints, run directories.

Names are loaded when first used: pipeline configs need the optimizers here, and not the loop behind them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .averaging import PolyakAverage
    from .criterion import Criterion
    from .run import Run
    from .trainer import Trainer

__all__ = ["Criterion", "PolyakAverage", "Run", "Trainer"]

_HOME = {"Criterion": "criterion", "PolyakAverage": "averaging", "Run": "run", "Trainer": "trainer"}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
