"""Objectives: what a training step minimises, in nats per example."""

from .elbo import ELBO, ELBOConfig, ReconstructionConfig
from .free_bits import FREE_BITS_VARIANTS, FreeBits, free_bits

__all__ = [
    "ELBO",
    "FREE_BITS_VARIANTS",
    "ELBOConfig",
    "FreeBits",
    "ReconstructionConfig",
    "free_bits",
]
