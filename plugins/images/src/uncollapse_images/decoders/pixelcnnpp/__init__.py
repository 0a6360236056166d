"""PixelCNN++: an autoregressive decoder of images at several sizes."""

from .decoder import PixelCNNPPDecoder, PixelCNNPPDecoderConfig
from .network import PixelCNNPP

__all__ = ["PixelCNNPP", "PixelCNNPPDecoder", "PixelCNNPPDecoderConfig"]
