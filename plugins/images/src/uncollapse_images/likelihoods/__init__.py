"""Likelihoods: a decoder's raw outputs to ``p(x|z)``."""

from .logistic import LogisticLikelihood, LogisticLikelihoodConfig, LogisticPixels
from .logistic_mixture import LogisticMixtureLikelihood, LogisticMixtureLikelihoodConfig, LogisticMixturePixels

__all__ = [
    "LogisticLikelihood",
    "LogisticLikelihoodConfig",
    "LogisticMixtureLikelihood",
    "LogisticMixtureLikelihoodConfig",
    "LogisticMixturePixels",
    "LogisticPixels",
]
