"""μ-VAE for uncollapse: a mean term in the place of the KL term, and latent clipping (Bridging the ELBO and MMD)."""

from . import functional
from .classifier import OnlineClassifier, OnlineClassifierConfig
from .clipping import LatentClipping, LatentClippingConfig
from .modified_kl import ModifiedKL, ModifiedKLConfig
from .probe import MLPProbe, MLPProbeConfig
from .traversal import TraversalSampler, TraversalSamplerConfig

__all__ = [
    "LatentClipping",
    "LatentClippingConfig",
    "MLPProbe",
    "MLPProbeConfig",
    "ModifiedKL",
    "ModifiedKLConfig",
    "OnlineClassifier",
    "OnlineClassifierConfig",
    "TraversalSampler",
    "TraversalSamplerConfig",
    "functional",
]
