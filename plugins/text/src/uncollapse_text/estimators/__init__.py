"""Estimators: measured numbers with units and standard errors."""

from .perplexity import Perplexity, PerplexityConfig, perplexity

__all__ = ["Perplexity", "PerplexityConfig", "perplexity"]
