"""Decoders: latents to ``p(x|z)``."""

from .autoregressive import AutoregressivePixels, IncrementalPixels
from .autoregressive_decoder import AutoregressiveDecoder, image_shape
from .gated_pixelcnn import GatedPixelCNNDecoder, GatedPixelCNNDecoderConfig
from .incremental import CachedMaskedConv, pointwise
from .masked_conv import MaskedConv2d
from .pixelcnn import PixelCNNDecoder, PixelCNNDecoderConfig
from .pixelcnnpp import PixelCNNPPDecoder, PixelCNNPPDecoderConfig
from .resnet import ResNetDecoder, ResNetDecoderConfig

__all__ = [
    "AutoregressiveDecoder",
    "AutoregressivePixels",
    "CachedMaskedConv",
    "GatedPixelCNNDecoder",
    "GatedPixelCNNDecoderConfig",
    "IncrementalPixels",
    "MaskedConv2d",
    "PixelCNNDecoder",
    "PixelCNNDecoderConfig",
    "PixelCNNPPDecoder",
    "PixelCNNPPDecoderConfig",
    "ResNetDecoder",
    "ResNetDecoderConfig",
    "image_shape",
    "pointwise",
]
