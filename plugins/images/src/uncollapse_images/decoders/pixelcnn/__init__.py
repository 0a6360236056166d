"""The masked residual PixelCNN."""

from .decoder import PixelCNNDecoder, PixelCNNDecoderConfig
from .network import PixelCNN

__all__ = ["PixelCNN", "PixelCNNDecoder", "PixelCNNDecoderConfig"]
