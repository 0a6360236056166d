"""Estimators: measured numbers with units and standard errors."""

from .active_units import ActiveUnits, ActiveUnitsConfig, active_units
from .aggregate import PAIRS_AT_ONCE, log_aggregate_posterior
from .draws import Draws, LogTerms
from .elbo import ELBOEstimator, ELBOEstimatorConfig
from .memory import Memory
from .mutual_information import MutualInformation, MutualInformationConfig, mutual_information_terms
from .nll import ImportanceWeightedNLL, ImportanceWeightedNLLConfig, importance_weighted_nll

__all__ = [
    "PAIRS_AT_ONCE",
    "ActiveUnits",
    "ActiveUnitsConfig",
    "Draws",
    "ELBOEstimator",
    "ELBOEstimatorConfig",
    "ImportanceWeightedNLL",
    "ImportanceWeightedNLLConfig",
    "LogTerms",
    "Memory",
    "MutualInformation",
    "MutualInformationConfig",
    "active_units",
    "importance_weighted_nll",
    "log_aggregate_posterior",
    "mutual_information_terms",
]
