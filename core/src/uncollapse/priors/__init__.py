"""Priors: ``p(z)``."""

from .autoregressive import AutoregressivePrior, AutoregressivePriorConfig
from .mixture import GaussianMixturePrior, GaussianMixturePriorConfig, Mixture
from .standard_normal import StandardNormalPrior, StandardNormalPriorConfig
from .vampprior import VampPrior, VampPriorConfig

__all__ = [
    "COMPONENTS",
    "AutoregressivePrior",
    "GaussianMixturePrior",
    "Mixture",
    "StandardNormalPrior",
    "VampPrior",
]

COMPONENTS = (StandardNormalPriorConfig, AutoregressivePriorConfig, GaussianMixturePriorConfig, VampPriorConfig)
