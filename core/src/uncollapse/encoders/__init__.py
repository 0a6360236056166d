"""Encoders: data to features."""

from .conv import ConvEncoder, ConvEncoderConfig
from .densenet import DenseNetEncoder, DenseNetEncoderConfig
from .gated_conv import GatedConvEncoder, GatedConvEncoderConfig, Tower, TwoTowerConvEncoder, TwoTowerConvEncoderConfig
from .lstm import LSTMEncoder, LSTMEncoderConfig
from .mlp import ACTIVATIONS, Activation, MLPEncoder, MLPEncoderConfig
from .resnet import ResNetEncoder, ResNetEncoderConfig

__all__ = [
    "ACTIVATIONS",
    "COMPONENTS",
    "Activation",
    "ConvEncoder",
    "DenseNetEncoder",
    "GatedConvEncoder",
    "LSTMEncoder",
    "MLPEncoder",
    "ResNetEncoder",
    "Tower",
    "TwoTowerConvEncoder",
]

COMPONENTS = (
    MLPEncoderConfig,
    ConvEncoderConfig,
    ResNetEncoderConfig,
    DenseNetEncoderConfig,
    LSTMEncoderConfig,
    GatedConvEncoderConfig,
    TwoTowerConvEncoderConfig,
)
"""Configs that the core registers from this folder."""
