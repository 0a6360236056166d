"""Priors: ``p(z)``."""

from .autoregressive import AutoregressivePrior, AutoregressivePriorConfig
from .autoregressive_conv import AutoregressiveConvPrior, AutoregressiveConvPriorConfig
from .mixture import GaussianMixturePrior, GaussianMixturePriorConfig, Mixture
from .two_level import TwoLevelPrior, TwoLevelPriorConfig
from .vampprior import VampPrior, VampPriorConfig

__all__ = [
    "AutoregressiveConvPrior",
    "AutoregressiveConvPriorConfig",
    "AutoregressivePrior",
    "AutoregressivePriorConfig",
    "GaussianMixturePrior",
    "GaussianMixturePriorConfig",
    "Mixture",
    "TwoLevelPrior",
    "TwoLevelPriorConfig",
    "VampPrior",
    "VampPriorConfig",
]
