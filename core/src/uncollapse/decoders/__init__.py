"""Decoders: latents to ``p(x|z)``."""

from .autoregressive import AutoregressivePixels
from .autoregressive_text import AutoregressiveText, TextNetwork
from .conv import ConvDecoder, ConvDecoderConfig, ConvDecoderFields
from .gated_pixelcnn import GatedPixelCNNDecoder, GatedPixelCNNDecoderConfig
from .hvae_conv import HVAEConvDecoder, HVAEConvDecoderConfig
from .hvae_pixelcnn import HVAEPixelCNNDecoder, HVAEPixelCNNDecoderConfig
from .lstm import LSTMDecoder, LSTMDecoderConfig
from .masked_conv import MaskedConv2d
from .mlp import MLPDecoder, MLPDecoderConfig, MLPDecoderFields
from .pixelcnn import PixelCNNDecoder, PixelCNNDecoderConfig
from .pixelcnnpp import PixelCNNPPDecoder, PixelCNNPPDecoderConfig
from .resnet import ResNetDecoder, ResNetDecoderConfig
from .text_search import IncrementalTokens
from .tokens import TokenHead, TokenIds, WordDropout
from .transformer import TransformerDecoder, TransformerDecoderConfig

__all__ = [
    "COMPONENTS",
    "AutoregressivePixels",
    "AutoregressiveText",
    "ConvDecoder",
    "ConvDecoderFields",
    "GatedPixelCNNDecoder",
    "HVAEConvDecoder",
    "HVAEPixelCNNDecoder",
    "IncrementalTokens",
    "LSTMDecoder",
    "MLPDecoder",
    "MLPDecoderFields",
    "MaskedConv2d",
    "PixelCNNDecoder",
    "PixelCNNPPDecoder",
    "ResNetDecoder",
    "TextNetwork",
    "TokenHead",
    "TokenIds",
    "TransformerDecoder",
    "WordDropout",
]

COMPONENTS = (
    MLPDecoderConfig,
    PixelCNNDecoderConfig,
    GatedPixelCNNDecoderConfig,
    ConvDecoderConfig,
    ResNetDecoderConfig,
    PixelCNNPPDecoderConfig,
    LSTMDecoderConfig,
    TransformerDecoderConfig,
    HVAEConvDecoderConfig,
    HVAEPixelCNNDecoderConfig,
)
"""Configs that the core registers from this folder."""
