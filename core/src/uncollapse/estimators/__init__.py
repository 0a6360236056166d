"""Estimators: measured numbers with units and standard errors."""

from ..passes import (
    AT_END,
    as_float64,
    batches_on_device,
    device_of,
    exact_gaussian,
    mean_estimate,
    measuring,
    posterior_mean,
    standard_error,
)
from .active_units import ActiveUnits, ActiveUnitsConfig, active_units
from .aggregate import PAIRS_AT_ONCE, log_aggregate_posterior
from .draws import Draws, LogTerms
from .elbo import ELBOEstimator, ELBOEstimatorConfig
from .memory import Memory
from .mutual_information import MutualInformation, MutualInformationConfig, mutual_information_terms
from .nll import ImportanceWeightedNLL, ImportanceWeightedNLLConfig, importance_weighted_nll

__all__ = [
    "AT_END",
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
    "as_float64",
    "batches_on_device",
    "device_of",
    "exact_gaussian",
    "importance_weighted_nll",
    "log_aggregate_posterior",
    "mean_estimate",
    "measuring",
    "mutual_information_terms",
    "posterior_mean",
    "standard_error",
]
