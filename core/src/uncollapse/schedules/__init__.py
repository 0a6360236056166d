"""Schedules: a weight as a function of progress."""

from .schedules import ConstantSchedule, ConstantScheduleConfig, LinearSchedule, LinearScheduleConfig

__all__ = ["ConstantSchedule", "ConstantScheduleConfig", "LinearSchedule", "LinearScheduleConfig"]
