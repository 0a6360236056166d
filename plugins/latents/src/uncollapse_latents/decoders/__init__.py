"""Decoders: latents to ``p(x|z)``."""

from .hvae_conv import HVAEConvDecoder, HVAEConvDecoderConfig
from .hvae_pixelcnn import HVAEPixelCNNDecoder, HVAEPixelCNNDecoderConfig

__all__ = ["HVAEConvDecoder", "HVAEConvDecoderConfig", "HVAEPixelCNNDecoder", "HVAEPixelCNNDecoderConfig"]
