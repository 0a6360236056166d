"""Distributions that the parts return; everything here is a ``torch.distributions.Distribution``."""

from .gaussian import DiagonalNormal, StandardNormal, gaussian_base, kl_per_dimension, standard_normal
from .sampling import FactorizedDensity, TermwiseDensity, analytic_kl, rsample_and_log_prob

__all__ = [
    "DiagonalNormal",
    "FactorizedDensity",
    "StandardNormal",
    "TermwiseDensity",
    "analytic_kl",
    "gaussian_base",
    "kl_per_dimension",
    "rsample_and_log_prob",
    "standard_normal",
]
