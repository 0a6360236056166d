"""Encoders: data to features."""

from .mlp import MLPEncoder, MLPEncoderConfig

__all__ = ["COMPONENTS", "MLPEncoder"]

COMPONENTS = (MLPEncoderConfig,)
