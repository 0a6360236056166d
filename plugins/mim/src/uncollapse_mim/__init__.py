"""MIM for uncollapse: Mutual Information Machine (Livne, Swersky and Fleet, 2019)."""

from . import functional
from .configs import AMIMConfig, JointEntropyConfig, MIMConfig
from .data import MixtureDataConfig
from .estimators import KSG, KSGConfig, SampledReconstruction, SampledReconstructionConfig
from .mixture_conditionals import GaussianMixture, MixtureLikelihoodConfig, MixturePosteriorConfig
from .mixtures import FixedMixture, FixedMixtureConfig, MixtureOfGaussians, ring
from .objectives import AMIM, MIM
from .pca import PCAFashionMNISTConfig
from .regularizer import JointEntropy

__all__ = [
    "AMIM",
    "KSG",
    "MIM",
    "AMIMConfig",
    "FixedMixture",
    "FixedMixtureConfig",
    "GaussianMixture",
    "JointEntropy",
    "JointEntropyConfig",
    "KSGConfig",
    "MIMConfig",
    "MixtureDataConfig",
    "MixtureLikelihoodConfig",
    "MixtureOfGaussians",
    "MixturePosteriorConfig",
    "PCAFashionMNISTConfig",
    "SampledReconstruction",
    "SampledReconstructionConfig",
    "functional",
    "ring",
]
