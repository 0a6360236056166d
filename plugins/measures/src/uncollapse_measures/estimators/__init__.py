"""Estimators: measured numbers with units and standard errors."""

from .kl_per_dimension import KLPerDimension, KLPerDimensionConfig
from .mutual_divergence import (
    MutualPosteriorDivergence,
    MutualPosteriorDivergenceConfig,
    PairStatistics,
    pair_statistics,
)
from .reconstruction_error import ReconstructionError, ReconstructionErrorConfig

__all__ = [
    "KLPerDimension",
    "KLPerDimensionConfig",
    "MutualPosteriorDivergence",
    "MutualPosteriorDivergenceConfig",
    "PairStatistics",
    "ReconstructionError",
    "ReconstructionErrorConfig",
    "pair_statistics",
]
