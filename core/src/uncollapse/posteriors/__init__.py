"""Posteriors: features to ``q(z|x)``."""

from .gaussian import GaussianPosterior, GaussianPosteriorConfig
from .iaf import InverseAutoregressivePosterior, InverseAutoregressivePosteriorConfig

__all__ = ["COMPONENTS", "GaussianPosterior", "InverseAutoregressivePosterior"]

COMPONENTS = (GaussianPosteriorConfig, InverseAutoregressivePosteriorConfig)
