"""Decoders: latents to ``p(x|z)``."""

from .autoregressive import AutoregressivePixels
from .conv import ConvDecoder, ConvDecoderConfig
from .masked_conv import MaskedConv2d
from .mlp import MLPDecoder, MLPDecoderConfig
from .pixelcnn import PixelCNNDecoder, PixelCNNDecoderConfig
from .resnet import ResNetDecoder, ResNetDecoderConfig

__all__ = [
    "COMPONENTS",
    "AutoregressivePixels",
    "ConvDecoder",
    "MLPDecoder",
    "MaskedConv2d",
    "PixelCNNDecoder",
    "ResNetDecoder",
]

COMPONENTS = (MLPDecoderConfig, PixelCNNDecoderConfig, ConvDecoderConfig, ResNetDecoderConfig)
