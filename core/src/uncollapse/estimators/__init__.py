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
from .passes import measuring
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
    "ReconstructionError",
    "active_units",
    "importance_weighted_nll",
    "log_aggregate_posterior",
    "measuring",
    "mutual_information_terms",
    "pair_statistics",
]

COMPONENTS = (
    ImportanceWeightedNLLConfig,
    ELBOEstimatorConfig,
    KLPerDimensionConfig,
    ActiveUnitsConfig,
    MutualInformationConfig,
    MutualPosteriorDivergenceConfig,
    ReconstructionErrorConfig,
)
