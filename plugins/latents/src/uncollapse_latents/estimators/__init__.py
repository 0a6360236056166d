"""Estimators: measured numbers with units and standard errors."""

from .rate_per_level import RatePerLevel, RatePerLevelConfig

__all__ = ["RatePerLevel", "RatePerLevelConfig"]
