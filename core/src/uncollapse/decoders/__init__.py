"""Decoders: latents to ``p(x|z)``."""

from .mlp import MLPDecoder, MLPDecoderConfig

__all__ = ["COMPONENTS", "MLPDecoder"]

COMPONENTS = (MLPDecoderConfig,)
