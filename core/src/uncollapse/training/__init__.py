"""Training: the loop, its state, checkpoints, run directories."""

from .averaging import PolyakAverage
from .criterion import Criterion
from .run import Run
from .trainer import Trainer

__all__ = ["Criterion", "PolyakAverage", "Run", "Trainer"]
