"""Schedules: a weight as a function of progress."""

from .schedules import (
    ConstantSchedule,
    ConstantScheduleConfig,
    CyclicalSchedule,
    CyclicalScheduleConfig,
    LinearSchedule,
    LinearScheduleConfig,
)

__all__ = ["COMPONENTS", "ConstantSchedule", "CyclicalSchedule", "LinearSchedule"]

COMPONENTS = (ConstantScheduleConfig, LinearScheduleConfig, CyclicalScheduleConfig)
"""Configs that the core registers from this folder."""
