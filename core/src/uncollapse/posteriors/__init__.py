"""Posteriors: features to ``q(z|x)``."""

from .gaussian import GaussianPosterior, GaussianPosteriorConfig

__all__ = ["GaussianPosterior", "GaussianPosteriorConfig"]
