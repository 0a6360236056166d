"""The gated PixelCNN with a vertical and a horizontal stack."""

from .decoder import GatedPixelCNNDecoder, GatedPixelCNNDecoderConfig
from .network import GatedPixelCNN

__all__ = ["GatedPixelCNN", "GatedPixelCNNDecoder", "GatedPixelCNNDecoderConfig"]
