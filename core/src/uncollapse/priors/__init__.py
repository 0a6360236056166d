"""Priors: ``p(z)``."""

from .autoregressive import AutoregressivePrior, AutoregressivePriorConfig
from .autoregressive_conv import AutoregressiveConvPrior, AutoregressiveConvPriorConfig
from .mixture import GaussianMixturePrior, GaussianMixturePriorConfig, Mixture
from .standard_normal import StandardNormalPrior, StandardNormalPriorConfig
from .two_level import TwoLevelPrior, TwoLevelPriorConfig
from .vampprior import VampPrior, VampPriorConfig

__all__ = [
    "COMPONENTS",
    "AutoregressiveConvPrior",
    "AutoregressivePrior",
    "GaussianMixturePrior",
    "Mixture",
    "StandardNormalPrior",
    "TwoLevelPrior",
    "VampPrior",
]

COMPONENTS = (
    StandardNormalPriorConfig,
    AutoregressivePriorConfig,
    AutoregressiveConvPriorConfig,
    GaussianMixturePriorConfig,
    TwoLevelPriorConfig,
    VampPriorConfig,
)
"""Configs that the core registers from this folder."""
