"""How the weights of a network start, where torch's own way is not wanted."""

from __future__ import annotations

import math

import torch
from torch import nn

from .errors import ConfigError

__all__ = ["he_normal"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@torch.no_grad()
def he_normal(module: nn.Module) -> None:
    """Draw the weights of every linear and convolutional layer from ``N(0, 2 / n)``; their biases start at 0.

    He et al., Delving Deep into Rectifiers (2015), eq. 10, https://arxiv.org/abs/1502.01852. ``n`` is the layer's
    input channels times its kernel's size, of transposed convolutions too: ``torch.nn.init`` would take their output
    channels. Other parameters stay as they are.

    Args:
        module: A network; all layers inside.

    Raises:
        ConfigError: A layer's weight is computed from other parameters (weight normalization), which would start
            elsewhere.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, _CONVOLUTIONS):
            inputs = layer.in_channels // layer.groups * math.prod(layer.kernel_size)
        elif isinstance(layer, nn.Linear):
            inputs = layer.in_features
        else:
            continue
        weight = layer._parameters.get("weight")
        if weight is None:
            raise ConfigError(
                f"model.initialization: he_normal draws weights, but the weight of {name or type(layer).__name__} is "
                "computed from other parameters; leave initialization out, or weight normalization off"
            )
        nn.init.normal_(weight, 0.0, math.sqrt(2 / inputs))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
