"""Samplers: draws from a trained model."""

from .from_prior import (
    AncestralSampler,
    AncestralSamplerConfig,
    ScaledGaussianSampler,
    ScaledGaussianSamplerConfig,
    decode,
)

__all__ = [
    "AncestralSampler",
    "AncestralSamplerConfig",
    "ScaledGaussianSampler",
    "ScaledGaussianSamplerConfig",
    "decode",
]
