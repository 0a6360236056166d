"""Objectives: what a training step minimises, in nats per example."""

from .elbo import ELBO, ELBOConfig
from .free_bits import FREE_BITS_VARIANTS, FreeBits, free_bits
from .reconstruction import Reconstruction, ReconstructionConfig

__all__ = [
    "ELBO",
    "FREE_BITS_VARIANTS",
    "ELBOConfig",
    "FreeBits",
    "Reconstruction",
    "ReconstructionConfig",
    "free_bits",
]
