"""Likelihoods: a decoder's raw outputs to ``p(x|z)``."""

from .likelihoods import (
    BernoulliLikelihood,
    BernoulliLikelihoodConfig,
    BernoulliPixels,
    CategoricalLikelihood,
    CategoricalLikelihoodConfig,
    CategoricalPixels,
    GaussianLikelihood,
    GaussianLikelihoodConfig,
)

__all__ = [
    "BernoulliLikelihood",
    "BernoulliLikelihoodConfig",
    "BernoulliPixels",
    "CategoricalLikelihood",
    "CategoricalLikelihoodConfig",
    "CategoricalPixels",
    "GaussianLikelihood",
    "GaussianLikelihoodConfig",
]
