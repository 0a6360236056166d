"""Fully connected encoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from ..component import BuildContext
from ..errors import ConfigError
from ..kinds import EncoderConfig

__all__ = ["ACTIVATIONS", "Activation", "MLPEncoder", "MLPEncoderConfig", "mlp"]

Activation = Literal["relu", "elu", "leaky_relu", "leaky_relu_0.1", "leaky_relu_0.2", "tanh", "silu", "gelu"]
"""Names of activations; ``leaky_relu`` has torch's slope of 0.01 below zero, the others the slope in their name."""

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
    "leaky_relu_0.1": partial(nn.LeakyReLU, 0.1),
    "leaky_relu_0.2": partial(nn.LeakyReLU, 0.2),
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}
"""What builds the layer of each name."""


def mlp(sizes: Sequence[int], activation: Activation, *, last: bool) -> nn.Sequential:
    """Return linear layers through ``sizes`` with activations between them, and after the last one if ``last``."""
    layers: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        layers.append(nn.Linear(n_in, n_out))
        if last or i < len(sizes) - 2:
            layers.append(ACTIVATIONS[activation]())
    return nn.Sequential(*layers)


class MLPEncoder(nn.Module):
    """Fully connected layers on the flattened data: Kingma and Welling (2014), appendix C,
    https://arxiv.org/abs/1312.6114.

    Args:
        event_shape: Shape ``X`` of the data.
        hidden: Widths of the layers; the last is the feature width ``H``.
        activation: After every layer.
    """

    def __init__(self, event_shape: tuple[int, ...], hidden: Sequence[int], activation: Activation = "relu") -> None:
        super().__init__()
        self.net = mlp([math.prod(event_shape), *hidden], activation, last=True)
        self.feature_shape: tuple[int, ...] = (hidden[-1],)

    def forward(self, x: Tensor) -> Tensor:
        """Return features ``[B, H]`` of ``x [B, *X]``."""
        features: Tensor = self.net(x.flatten(1))
        return features


class MLPEncoderConfig(EncoderConfig):
    """Fully connected layers: Kingma and Welling (2014), appendix C, https://arxiv.org/abs/1312.6114."""

    type: Literal["mlp"] = "mlp"
    hidden: tuple[PositiveInt, ...] = Field((256, 256), min_length=1, description="widths of the layers")
    activation: Activation = Field("relu", description="nonlinearity after every hidden layer")

    def build(self, context: BuildContext) -> MLPEncoder:
        """Return the encoder.

        Raises:
            ConfigError: The data are tokens, which are no numbers to be multiplied.
        """
        if context.data.support == "tokens":
            raise ConfigError(
                "model.encoder: 'mlp' reads numbers, but the data are tokens; use an encoder of texts, lstm say"
            )
        return MLPEncoder(context.data.event_shape, self.hidden, self.activation)
