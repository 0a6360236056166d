"""Estimators: measured numbers with units and standard errors."""

from .active_units import ActiveUnits, ActiveUnitsConfig, active_units
from .aggregate import log_aggregate_posterior
from .elbo import ELBOEstimator, ELBOEstimatorConfig
from .kl_per_dimension import KLPerDimension, KLPerDimensionConfig
from .mutual_divergence import (
    MutualPosteriorDivergence,
    MutualPosteriorDivergenceConfig,
    PairStatistics,
    pair_statistics,
)
from .mutual_information import MutualInformation, MutualInformationConfig, mutual_information_terms
from .nll import ImportanceWeightedNLL, ImportanceWeightedNLLConfig, importance_weighted_nll
from .passes import as_float64, batches_on_device, device_of, mean_estimate, measuring
from .perplexity import Perplexity, PerplexityConfig, perplexity
from .rate_per_level import RatePerLevel, RatePerLevelConfig
from .reconstruction_error import ReconstructionError, ReconstructionErrorConfig

__all__ = [
    "COMPONENTS",
    "ActiveUnits",
    "ELBOEstimator",
    "ImportanceWeightedNLL",
    "KLPerDimension",
    "MutualInformation",
    "MutualPosteriorDivergence",
    "PairStatistics",
    "Perplexity",
    "RatePerLevel",
    "ReconstructionError",
    "active_units",
    "as_float64",
    "batches_on_device",
    "device_of",
    "importance_weighted_nll",
    "log_aggregate_posterior",
    "mean_estimate",
    "measuring",
    "mutual_information_terms",
    "pair_statistics",
    "perplexity",
]

COMPONENTS = (
    ImportanceWeightedNLLConfig,
    ELBOEstimatorConfig,
    KLPerDimensionConfig,
    RatePerLevelConfig,
    ActiveUnitsConfig,
    MutualInformationConfig,
    MutualPosteriorDivergenceConfig,
    ReconstructionErrorConfig,
    PerplexityConfig,
)
"""Configs that the core registers from this folder."""
