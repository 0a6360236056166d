"""InfoVAE for uncollapse: divergences between aggregate posterior and prior (Zhao, Song and Ermon, 2017)."""

from . import functional
from .adversarial import AdversarialDivergence, AdversarialDivergenceConfig, Discriminator
from .class_mismatch import ClassMismatch, ClassMismatchConfig
from .codes import LogDeterminant, LogDeterminantConfig, MMDEstimator, MMDEstimatorConfig
from .divergence import Divergence
from .kernels import Kernel
from .markov_chain import MarkovChainSampler, MarkovChainSamplerConfig
from .mmd import MMD, MMDConfig
from .stein import Stein, SteinConfig

__all__ = [
    "MMD",
    "AdversarialDivergence",
    "AdversarialDivergenceConfig",
    "ClassMismatch",
    "ClassMismatchConfig",
    "Discriminator",
    "Divergence",
    "Kernel",
    "LogDeterminant",
    "LogDeterminantConfig",
    "MMDConfig",
    "MMDEstimator",
    "MMDEstimatorConfig",
    "MarkovChainSampler",
    "MarkovChainSamplerConfig",
    "Stein",
    "SteinConfig",
    "functional",
]
