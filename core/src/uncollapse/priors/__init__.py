"""Priors: ``p(z)``."""

from .standard_normal import StandardNormalPrior, StandardNormalPriorConfig

__all__ = ["StandardNormalPrior", "StandardNormalPriorConfig"]
