"""Densely connected convolutional encoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from uncollapse.config import BuildContext, EncoderConfig
from uncollapse.encoders import map_sizes, require_image
from uncollapse.errors import ConfigError

from ..weight_norm import initialize_from_data, weight_normalized

__all__ = ["DenseNetEncoder", "DenseNetEncoderConfig"]

_BOTTLENECK = 4


class DenseStep(nn.Module):
    """``elu([x, conv3x3(elu(conv1x1(x)))])``: all channels that were there, and ``growth`` new ones.

    Huang et al., Densely Connected Convolutional Networks (2017), section 3, https://arxiv.org/abs/1608.06993, with a
    bottleneck of four times the new channels (DenseNet-B). The activation stands where MAE's released code has it.
    """

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.narrow = weight_normalized(nn.Conv2d(channels, _BOTTLENECK * growth, 1))
        self.widen = weight_normalized(nn.Conv2d(_BOTTLENECK * growth, growth, 3, padding=1))
        self.activation = nn.ELU()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[B, channels + growth, H, W]`` for ``x [B, channels, H, W]``."""
        new = self.widen(self.activation(self.narrow(x)))
        out: Tensor = self.activation(torch.cat([x, new], dim=1))
        return out


class DenseNetEncoder(nn.Module):
    """Dense blocks with a 3x3 convolution of stride 2 between them, then a 1x1 convolution, ELU after each.

    The encoder of MAE's colour images (Ma et al., 2019, section 4.2, https://arxiv.org/abs/1901.01498) as released:
    for 3x32x32, blocks of 3, 3 and 6 steps to 48, 96 and 192 channels at sides 32, 16 and 8, then 96 features and, for
    a latent of 16x8x8, the 32 maps of its moments. Every convolution is weight-normalized.

    Args:
        event_shape: Shape ``X = (C, H, W)`` of the data; any size.
        growth: New channels of each step, one number a block.
        steps: Steps of each block.
        features: Channels of the 1x1 convolution after the last block.
        out_channels: Channels of a last 1x1 convolution without activation, whose maps are the features: ``2 C`` for a
            latent ``(C, H / 2^k, W / 2^k)`` after ``k + 1`` blocks. None for no such layer and a flat vector.

    Raises:
        ShapeError: The data are not images, or too small for the blocks.
        ConfigError: ``growth`` and ``steps`` differ in length.
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        growth: Sequence[int] = (15, 16, 16),
        steps: Sequence[int] = (3, 3, 6),
        features: int = 96,
        out_channels: int | None = None,
    ) -> None:
        super().__init__()
        if len(growth) != len(steps):
            raise ConfigError(_unequal("model.encoder.growth", growth, steps))
        channels, height, width = require_image(event_shape, "model.encoder")
        between = len(steps) - 1
        size = map_sizes((height, width), [3] * between, [2] * between, "model.encoder")[-1]
        layers: list[nn.Module] = []
        for block, (new, count) in enumerate(zip(growth, steps, strict=True)):
            if block:
                layers += [weight_normalized(nn.Conv2d(channels, channels, 3, 2, 1)), nn.ELU()]
            for _ in range(count):
                layers.append(DenseStep(channels, new))
                channels += new
        layers += [weight_normalized(nn.Conv2d(channels, features, 1)), nn.ELU()]
        self.feature_shape: tuple[int, ...]
        if out_channels is None:
            layers.append(nn.Flatten())
            self.feature_shape = (features * math.prod(size),)
        else:
            layers.append(weight_normalized(nn.Conv2d(features, out_channels, 1)))
            self.feature_shape = (out_channels, *size)
        self.net = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return features ``[B, H]`` or ``[B, out_channels, h, w]`` of ``x [B, C, H, W]``."""
        features: Tensor = self.net(x)
        return features

    def initialize(self, x: Tensor) -> None:
        """Give the outputs of all convolutions mean 0 and standard deviation 1 on ``x [B, C, H, W]``.

        Salimans and Kingma, Weight Normalization (2016), eq. 6, https://arxiv.org/abs/1602.07868.
        """
        initialize_from_data(self, lambda: self(x))


class DenseNetEncoderConfig(EncoderConfig):
    """Densely connected convolutions: Huang et al. (2017), https://arxiv.org/abs/1608.06993, as MAE encodes colour
    images (Ma et al., 2019), section 4.2, https://arxiv.org/abs/1901.01498.
    """

    type: Literal["densenet"] = "densenet"
    growth: tuple[PositiveInt, ...] = Field((15, 16, 16), min_length=1, description="new channels a step, by block")
    steps: tuple[PositiveInt, ...] = Field((3, 3, 6), min_length=1, description="steps of each block")
    features: PositiveInt = Field(96, description="channels of the 1x1 convolution after the last block")
    out_channels: PositiveInt | None = Field(
        None,
        description="channels of a last 1x1 convolution; null: 2C and maps for a spatial latent (C, h, w), else none "
        "and a flat vector",
    )

    @model_validator(mode="after")
    def _one_growth_a_block(self) -> DenseNetEncoderConfig:
        if len(self.growth) != len(self.steps):
            raise ValueError(_unequal("growth", self.growth, self.steps))
        return self

    def build(self, context: BuildContext) -> DenseNetEncoder:
        """Return the encoder.

        Raises:
            ShapeError: The data are not images, or too small for the blocks.
        """
        out_channels = self.out_channels
        if out_channels is None and len(context.latent_shape) == 3:
            out_channels = 2 * context.latent_shape[0]
        return DenseNetEncoder(context.data.event_shape, self.growth, self.steps, self.features, out_channels)


def _unequal(place: str, growth: Sequence[int], steps: Sequence[int]) -> str:
    return (
        f"{place}: found {len(growth)} values {list(growth)} for {len(steps)} blocks of {list(steps)} steps; give one "
        "for each block"
    )
