"""Posteriors: features to ``q(z|x)``."""

from .gaussian import GaussianPosterior, GaussianPosteriorConfig
from .iaf import InverseAutoregressivePosterior, InverseAutoregressivePosteriorConfig
from .two_level import TwoLevelPosterior, TwoLevelPosteriorConfig

__all__ = ["COMPONENTS", "GaussianPosterior", "InverseAutoregressivePosterior", "TwoLevelPosterior"]

COMPONENTS = (GaussianPosteriorConfig, InverseAutoregressivePosteriorConfig, TwoLevelPosteriorConfig)
"""Configs that the core registers from this folder."""
