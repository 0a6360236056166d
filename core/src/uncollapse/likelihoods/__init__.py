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
from .logistic import LogisticLikelihood, LogisticLikelihoodConfig, LogisticPixels
from .logistic_mixture import LogisticMixtureLikelihood, LogisticMixtureLikelihoodConfig, LogisticMixturePixels

__all__ = [
    "COMPONENTS",
    "BernoulliLikelihood",
    "BernoulliLikelihoodConfig",
    "BernoulliPixels",
    "CategoricalLikelihood",
    "CategoricalLikelihoodConfig",
    "CategoricalPixels",
    "GaussianLikelihood",
    "GaussianLikelihoodConfig",
    "LogisticLikelihood",
    "LogisticLikelihoodConfig",
    "LogisticMixtureLikelihood",
    "LogisticMixtureLikelihoodConfig",
    "LogisticMixturePixels",
    "LogisticPixels",
]

COMPONENTS = (
    BernoulliLikelihoodConfig,
    GaussianLikelihoodConfig,
    CategoricalLikelihoodConfig,
    LogisticLikelihoodConfig,
    LogisticMixtureLikelihoodConfig,
)
"""Configs that the core registers from this folder."""
