"""Schedules: a weight as a function of progress."""

from .schedules import (
    ConstantSchedule,
    ConstantScheduleConfig,
    CyclicalSchedule,
    CyclicalScheduleConfig,
    LinearSchedule,
    LinearScheduleConfig,
)

__all__ = [
    "ConstantSchedule",
    "ConstantScheduleConfig",
    "CyclicalSchedule",
    "CyclicalScheduleConfig",
    "LinearSchedule",
    "LinearScheduleConfig",
]
