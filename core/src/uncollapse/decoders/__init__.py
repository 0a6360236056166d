"""Decoders: latents to ``p(x|z)``."""

from .conv import ConvDecoder, ConvDecoderConfig, ConvDecoderFields, output_paddings
from .mlp import MLPDecoder, MLPDecoderConfig, MLPDecoderFields
from .transposed_conv import TransposedConv2d

__all__ = [
    "ConvDecoder",
    "ConvDecoderConfig",
    "ConvDecoderFields",
    "MLPDecoder",
    "MLPDecoderConfig",
    "MLPDecoderFields",
    "TransposedConv2d",
    "output_paddings",
]
