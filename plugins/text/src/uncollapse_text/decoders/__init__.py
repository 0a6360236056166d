"""Decoders: latents to ``p(x|z)``."""

from .autoregressive_text import AutoregressiveText, TextNetwork
from .lstm import LSTMDecoder, LSTMDecoderConfig
from .text_search import IncrementalTokens
from .tokens import TokenHead, TokenIds, WordDropout
from .transformer import TransformerDecoder, TransformerDecoderConfig

__all__ = [
    "AutoregressiveText",
    "IncrementalTokens",
    "LSTMDecoder",
    "LSTMDecoderConfig",
    "TextNetwork",
    "TokenHead",
    "TokenIds",
    "TransformerDecoder",
    "TransformerDecoderConfig",
    "WordDropout",
]
