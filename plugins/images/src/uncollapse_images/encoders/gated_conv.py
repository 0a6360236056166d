"""Gated-convolutional encoders, with one tower or with one for each of two levels of latents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from torch import Tensor, nn
from uncollapse.config import BuildContext, EncoderConfig
from uncollapse.encoders import map_sizes, per_layer, require_image
from uncollapse.errors import ConfigError

from ..gates import GatedConv2d

__all__ = [
    "GatedConvEncoder",
    "GatedConvEncoderConfig",
    "Tower",
    "TwoTowerConvEncoder",
    "TwoTowerConvEncoderConfig",
]


def _tower(
    event_shape: tuple[int, ...],
    channels: Sequence[int],
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int],
    place: str,
) -> tuple[nn.Sequential, int]:
    """Return gated convolutions ``[B, *X] -> [B, F]`` and the number ``F`` of features that they put out."""
    before, height, width = require_image(event_shape, "model.encoder")
    kernels = per_layer(kernel_size, len(channels), f"{place}.kernel_size")
    strides = per_layer(stride, len(channels), f"{place}.stride")
    size = map_sizes((height, width), kernels, strides, place)[-1]
    layers: list[nn.Module] = []
    for after, kernel, step in zip(channels, kernels, strides, strict=True):
        layers.append(GatedConv2d(before, after, kernel, step))
        before = after
    return nn.Sequential(*layers, nn.Flatten()), before * math.prod(size)


class GatedConvEncoder(nn.Module):
    """Gated convolutions, flattened: the layers of ``q(z2|x)`` in ConvHVAE and PixelHVAE of Tomczak and Welling, VAE
    with a VampPrior (2018), section 5, https://arxiv.org/abs/1705.07120, as released.

    For 28x28 the defaults end in 6 maps of 7x7, 294 features.

    Args:
        event_shape: Shape ``X = (C, H, W)`` of the data; any size.
        channels: Output channels of the layers.
        kernel_size: One number, or one a layer.
        stride: One number, or one a layer.

    Raises:
        ShapeError: The data are not images, or too small for the layers.
        ConfigError: ``kernel_size`` or ``stride`` has another length than ``channels``.
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        channels: Sequence[int] = (32, 32, 64, 64, 6),
        kernel_size: int | Sequence[int] = (7, 3, 5, 3, 3),
        stride: int | Sequence[int] = (1, 2, 1, 2, 1),
    ) -> None:
        super().__init__()
        self.net, features = _tower(event_shape, channels, kernel_size, stride, "model.encoder")
        self.feature_shape: tuple[int, ...] = (features,)

    def forward(self, x: Tensor) -> Tensor:
        """Return features ``[B, H]`` of ``x [B, C, H, W]``."""
        features: Tensor = self.net(x)
        return features


class Tower(BaseModel):
    """Gated convolutions in order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: tuple[PositiveInt, ...] = Field((32, 32, 64, 64, 6), min_length=1, description="output channels")
    kernel_size: PositiveInt | tuple[PositiveInt, ...] = Field(3, description="one number, or one a layer")
    stride: PositiveInt | tuple[PositiveInt, ...] = Field((1, 2, 1, 2, 1), description="one number, or one a layer")

    @model_validator(mode="after")
    def _fits(self) -> Tower:
        per_layer(self.kernel_size, len(self.channels), "kernel_size")
        per_layer(self.stride, len(self.channels), "stride")
        return self


TOP = Tower(kernel_size=(7, 3, 5, 3, 3))
BOTTOM = Tower()


class TwoTowerConvEncoder(nn.Module):
    """Two towers of gated convolutions on the same image, one for each level of a two-level posterior: ConvHVAE and
    PixelHVAE of Tomczak and Welling (2018), section 5, https://arxiv.org/abs/1705.07120, as released.

    For 28x28 the defaults end in 294 features each. The posterior of both levels reads ``[B, 2, H]``: first the top
    level's features, then the bottom level's.

    Args:
        event_shape: Shape ``X = (C, H, W)`` of the data; any size.
        top: Layers for ``q(z2|x)``.
        bottom: Layers for ``q(z1|x, z2)``.

    Raises:
        ShapeError: The data are not images, or too small for the layers.
        ConfigError: The towers put out different numbers of features.
    """

    def __init__(self, event_shape: tuple[int, ...], top: Tower = TOP, bottom: Tower = BOTTOM) -> None:
        super().__init__()
        self.top_tower, features = _tower(event_shape, top.channels, top.kernel_size, top.stride, "model.encoder.top")
        self.bottom_tower, others = _tower(
            event_shape, bottom.channels, bottom.kernel_size, bottom.stride, "model.encoder.bottom"
        )
        if features != others:
            raise ConfigError(
                f"model.encoder: the top level's tower puts out {features} features, the bottom level's {others}; make "
                "them agree by the last of 'channels', or by 'stride'"
            )
        self.feature_shape: tuple[int, ...] = (2, features)

    def forward(self, x: Tensor) -> Tensor:
        """Return features ``[B, 2, H]`` of ``x [B, C, H, W]``, the top level's first."""
        return torch.stack([self.top_tower(x), self.bottom_tower(x)], dim=1)

    def top(self, x: Tensor) -> Tensor:
        """Return the top level's features alone, ``[B, 1, H]``."""
        features: Tensor = self.top_tower(x)
        return features.unsqueeze(1)


class GatedConvEncoderConfig(EncoderConfig):
    """Gated convolutions: Tomczak and Welling, VAE with a VampPrior (2018), section 5,
    https://arxiv.org/abs/1705.07120, as released.
    """

    type: Literal["gated_conv"] = "gated_conv"
    channels: tuple[PositiveInt, ...] = Field((32, 32, 64, 64, 6), min_length=1, description="output channels")
    kernel_size: PositiveInt | tuple[PositiveInt, ...] = Field(
        (7, 3, 5, 3, 3), description="one number, or one a layer"
    )
    stride: PositiveInt | tuple[PositiveInt, ...] = Field((1, 2, 1, 2, 1), description="one number, or one a layer")

    @model_validator(mode="after")
    def _fits(self) -> GatedConvEncoderConfig:
        per_layer(self.kernel_size, len(self.channels), "kernel_size")
        per_layer(self.stride, len(self.channels), "stride")
        return self

    def build(self, context: BuildContext) -> GatedConvEncoder:
        """Return the encoder.

        Raises:
            ShapeError: The data are not images, or too small for the layers.
        """
        return GatedConvEncoder(context.data.event_shape, self.channels, self.kernel_size, self.stride)


class TwoTowerConvEncoderConfig(EncoderConfig):
    """A tower of gated convolutions for each of two levels of latents: ConvHVAE and PixelHVAE of Tomczak and Welling
    (2018), section 5, https://arxiv.org/abs/1705.07120, as released. Goes with the posterior 'two_level'.
    """

    type: Literal["hvae_conv"] = "hvae_conv"
    top: Tower = Field(TOP, description="layers for q(z2|x)")
    bottom: Tower = Field(BOTTOM, description="layers for q(z1|x, z2)")

    def build(self, context: BuildContext) -> TwoTowerConvEncoder:
        """Return the encoder.

        Raises:
            ShapeError: The data are not images, or too small for the layers.
            ConfigError: The towers put out different numbers of features.
        """
        return TwoTowerConvEncoder(context.data.event_shape, self.top, self.bottom)
