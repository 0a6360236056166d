"""Flows on zuko's lazy transforms.

zuko's own names that parts need are exported here too: importing zuko itself first would switch off the validation of
every torch distribution in the process (see :mod:`uncollapse_latents.flows.zuko_names`).
"""

from .affine import AutoregressiveAffine, AutoregressiveAffineTransform
from .conditional_made import ConditionalMADE
from .iaf import GatedStep, InverseAutoregressiveFlow, InverseAutoregressiveTransform
from .made import MADE
from .masked_conv import AutoregressiveConvAffine, AutoregressiveConvTransform, MaskedConvNet
from .zuko_names import LazyComposedTransform, LazyTransform, MaskedLinear, NormalizingFlow, UnconditionalTransform

__all__ = [
    "MADE",
    "AutoregressiveAffine",
    "AutoregressiveAffineTransform",
    "AutoregressiveConvAffine",
    "AutoregressiveConvTransform",
    "ConditionalMADE",
    "GatedStep",
    "InverseAutoregressiveFlow",
    "InverseAutoregressiveTransform",
    "LazyComposedTransform",
    "LazyTransform",
    "MaskedConvNet",
    "MaskedLinear",
    "NormalizingFlow",
    "UnconditionalTransform",
]
