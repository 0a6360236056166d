"""Learning rates over a run: factors on the optimizer's rate."""

from .plateau import PlateauConfig, PlateauSchedule
from .schedules import CosineConfig, ExponentialConfig, MultistepConfig, NoamConfig, WarmupConfig

__all__ = [
    "CosineConfig",
    "ExponentialConfig",
    "MultistepConfig",
    "NoamConfig",
    "PlateauConfig",
    "PlateauSchedule",
    "WarmupConfig",
]
