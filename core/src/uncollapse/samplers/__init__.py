"""Samplers: draws from a trained model."""

from .from_prior import AncestralSampler, AncestralSamplerConfig, ScaledGaussianSampler, ScaledGaussianSamplerConfig

__all__ = ["COMPONENTS", "AncestralSampler", "ScaledGaussianSampler"]

COMPONENTS = (AncestralSamplerConfig, ScaledGaussianSamplerConfig)
