"""How the layers of an autoregressive image network are normalized."""

from __future__ import annotations

from typing import Literal

from torch import nn

from ..weight_norm import weight_normalized
from .masked_conv import MaskedConv2d

__all__ = ["Normalization", "normalize_weights", "normalizer"]

Normalization = Literal["none", "weight", "batch"]


def normalizer(normalization: Normalization, channels: int) -> nn.Module:
    """Return what comes between a layer of that many channels and its activation."""
    return nn.BatchNorm2d(channels) if normalization == "batch" else nn.Identity()


def normalize_weights(network: nn.Module) -> None:
    """Normalize the weight of every layer, as in all of MAE's released code (Ma et al., 2019).

    The gain of a masked layer is stored as its logarithm there, that of other layers as it is.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            weight_normalized(module, mask=getattr(module, "live", None), log_gain=isinstance(module, MaskedConv2d))
