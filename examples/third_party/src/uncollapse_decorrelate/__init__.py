"""DIP-VAE for uncollapse: a covariance penalty on posterior means (Kumar, Sattigeri and Balakrishnan, ICLR 2018)."""

from .covariance import CovariancePenalty, CovariancePenaltyConfig, covariance

__all__ = ["CovariancePenalty", "CovariancePenaltyConfig", "covariance"]
