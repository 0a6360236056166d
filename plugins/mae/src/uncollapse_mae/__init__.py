"""MAE for uncollapse: mutual posterior-divergence regularization (Ma, Zhou and Hovy, ICLR 2019)."""

from . import functional
from .regularizer import MutualDivergence, MutualDivergenceConfig

__all__ = ["MutualDivergence", "MutualDivergenceConfig", "functional"]
