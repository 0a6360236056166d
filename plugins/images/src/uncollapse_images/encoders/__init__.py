"""Encoders: data to features."""

from .densenet import DenseNetEncoder, DenseNetEncoderConfig
from .gated_conv import GatedConvEncoder, GatedConvEncoderConfig, Tower, TwoTowerConvEncoder, TwoTowerConvEncoderConfig
from .resnet import ResNetEncoder, ResNetEncoderConfig

__all__ = [
    "DenseNetEncoder",
    "DenseNetEncoderConfig",
    "GatedConvEncoder",
    "GatedConvEncoderConfig",
    "ResNetEncoder",
    "ResNetEncoderConfig",
    "Tower",
    "TwoTowerConvEncoder",
    "TwoTowerConvEncoderConfig",
]
