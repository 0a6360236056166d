"""Encoders: data to features."""

from .conv import ConvEncoder, ConvEncoderConfig
from .mlp import MLPEncoder, MLPEncoderConfig
from .resnet import ResNetEncoder, ResNetEncoderConfig

__all__ = ["COMPONENTS", "ConvEncoder", "MLPEncoder", "ResNetEncoder"]

COMPONENTS = (MLPEncoderConfig, ConvEncoderConfig, ResNetEncoderConfig)
