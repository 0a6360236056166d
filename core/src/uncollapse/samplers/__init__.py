"""Samplers: draws from a trained model."""

from .from_prior import AncestralSampler, AncestralSamplerConfig, decode

__all__ = ["AncestralSampler", "AncestralSamplerConfig", "decode"]
