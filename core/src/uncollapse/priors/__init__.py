"""Priors: ``p(z)``."""

from .autoregressive import AutoregressivePrior, AutoregressivePriorConfig
from .standard_normal import StandardNormalPrior, StandardNormalPriorConfig

__all__ = ["COMPONENTS", "AutoregressivePrior", "StandardNormalPrior"]

COMPONENTS = (StandardNormalPriorConfig, AutoregressivePriorConfig)
