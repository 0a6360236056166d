"""Encoders: data to features."""

from .conv import ConvEncoder, ConvEncoderConfig, map_sizes, per_layer, require_image
from .mlp import ACTIVATIONS, Activation, MLPEncoder, MLPEncoderConfig

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "ConvEncoder",
    "ConvEncoderConfig",
    "MLPEncoder",
    "MLPEncoderConfig",
    "map_sizes",
    "per_layer",
    "require_image",
]
