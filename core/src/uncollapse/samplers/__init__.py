"""Samplers: draws from a trained model."""

from .from_prior import (
    AncestralSampler,
    AncestralSamplerConfig,
    ScaledGaussianSampler,
    ScaledGaussianSamplerConfig,
    decode,
)

__all__ = ["COMPONENTS", "AncestralSampler", "ScaledGaussianSampler", "decode"]

COMPONENTS = (AncestralSamplerConfig, ScaledGaussianSamplerConfig)
"""Configs that the core registers from this folder."""
