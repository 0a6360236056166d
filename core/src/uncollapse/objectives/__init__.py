"""Objectives: what a training step minimises, in nats per example."""

from .elbo import ELBO, ELBOConfig
from .free_bits import FREE_BITS_VARIANTS, FreeBits, free_bits
from .iwae import IWAE, IWAEConfig
from .reconstruction import Reconstruction, ReconstructionConfig

__all__ = ["COMPONENTS", "ELBO", "FREE_BITS_VARIANTS", "IWAE", "FreeBits", "Reconstruction", "free_bits"]

COMPONENTS = (ELBOConfig, ReconstructionConfig, IWAEConfig)
"""Configs that the core registers from this folder."""
