"""Posteriors: features to ``q(z|x)``."""

from .iaf import InverseAutoregressivePosterior, InverseAutoregressivePosteriorConfig
from .two_level import TwoLevelPosterior, TwoLevelPosteriorConfig

__all__ = [
    "InverseAutoregressivePosterior",
    "InverseAutoregressivePosteriorConfig",
    "TwoLevelPosterior",
    "TwoLevelPosteriorConfig",
]
