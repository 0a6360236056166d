"""Convolutional encoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from ..component import BuildContext
from ..errors import ConfigError, ShapeError
from ..kinds import EncoderConfig
from .mlp import ACTIVATIONS, Activation, mlp

__all__ = ["ConvEncoder", "ConvEncoderConfig", "map_sizes", "per_layer", "require_image"]


def require_image(event_shape: tuple[int, ...], place: str) -> tuple[int, int, int]:
    """Return ``(C, H, W)``.

    Args:
        event_shape: Shape ``X`` of the data.
        place: Where the part stands in a pipeline, ``model.encoder`` say; opens the message.

    Raises:
        ShapeError: The data are not images.
    """
    if len(event_shape) != 3:
        raise ShapeError(
            f"{place}: convolutions need images of shape (C, H, W), but the data have event shape "
            f"{tuple(event_shape)}; use the type 'mlp', or data of images"
        )
    channels, height, width = event_shape
    return channels, height, width


def per_layer(value: int | Sequence[int], layers: int, place: str) -> tuple[int, ...]:
    """Return one number a layer.

    Args:
        value: One number for all layers, or one a layer.
        layers: How many layers there are.
        place: Where the value stands in a pipeline; opens the message.

    Raises:
        ConfigError: There are more or fewer numbers than layers.
    """
    if isinstance(value, int):
        return (value,) * layers
    if len(value) != layers:
        raise ConfigError(
            f"{place}: found {len(value)} values {list(value)} for {layers} layers (as many as 'channels' has); "
            "give one number for all layers, or one for each"
        )
    return tuple(value)


def map_sizes(
    size: tuple[int, int], kernels: Sequence[int], strides: Sequence[int], place: str
) -> list[tuple[int, int]]:
    """Return the heights and widths before, between and after strided convolutions with padding ``(kernel - 1) // 2``.

    An odd kernel takes ``n`` to ``ceil(n / stride)``; an even one to ``floor((n - 2) / stride) + 1``.

    Args:
        size: Height and width of the data.
        kernels: Kernel size of every layer.
        strides: Stride of every layer.
        place: Where the network stands in a pipeline; opens the message.

    Raises:
        ShapeError: A layer would put out an empty map.
    """
    sizes = [size]
    for layer, (kernel, stride) in enumerate(zip(kernels, strides, strict=True)):
        reach = kernel - 2 * ((kernel - 1) // 2)
        height, width = sizes[-1]
        if min(height, width) < reach:
            raise ShapeError(
                f"{place}: data of {size[0]}x{size[1]} have shrunk to {height}x{width} before layer {layer}, too "
                f"small for its kernel of {kernel}; use fewer layers, smaller strides or odd kernels"
            )
        sizes.append(((height - reach) // stride + 1, (width - reach) // stride + 1))
    return sizes


class ConvEncoder(nn.Module):
    """Strided convolutions with an activation after each: Radford et al., DCGAN (2016), section 3,
    https://arxiv.org/abs/1511.06434, without its normalization.

    Padding is ``(kernel - 1) // 2``: an odd kernel takes a map of ``n`` to ``ceil(n / stride)``.

    Args:
        event_shape: Shape ``X = (C, H, W)`` of the data.
        channels: Output channels of the layers.
        kernel_size: One number, or one a layer.
        stride: One number, or one a layer.
        activation: After every convolution and hidden layer.
        flatten: Features are a vector ``[B, H]``; else a map ``[B, C', h, w]``.
        out_channels: Channels of a final 1x1 convolution without activation; None for no such layer. A spatial
            Gaussian latent ``(C, h, w)`` needs ``2 C`` and ``flatten=False``.
        hidden: Widths of fully connected layers after flattening.

    Raises:
        ShapeError: The data are not images, or too small for the layers.
        ConfigError: ``kernel_size`` or ``stride`` has another length than ``channels``; or ``hidden`` without
            ``flatten``.
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        channels: Sequence[int] = (32, 64, 64),
        kernel_size: int | Sequence[int] = 3,
        stride: int | Sequence[int] = 2,
        activation: Activation = "relu",
        flatten: bool = True,
        out_channels: int | None = None,
        hidden: Sequence[int] = (),
    ) -> None:
        super().__init__()
        before, height, width = require_image(event_shape, "model.encoder")
        kernels = per_layer(kernel_size, len(channels), "model.encoder.kernel_size")
        strides = per_layer(stride, len(channels), "model.encoder.stride")
        if hidden and not flatten:
            raise ConfigError(f"model.encoder.hidden: fully connected layers {list(hidden)} need flatten: true")
        sizes = map_sizes((height, width), kernels, strides, "model.encoder")
        layers: list[nn.Module] = []
        for after, kernel, step in zip(channels, kernels, strides, strict=True):
            layers.append(nn.Conv2d(before, after, kernel, step, padding=(kernel - 1) // 2))
            layers.append(ACTIVATIONS[activation]())
            before = after
        if out_channels is not None:
            layers.append(nn.Conv2d(before, out_channels, 1))
            before = out_channels
        self.feature_shape: tuple[int, ...] = (before, *sizes[-1])
        if flatten:
            features = math.prod(self.feature_shape)
            layers += [nn.Flatten(), mlp([features, *hidden], activation, last=True)]
            self.feature_shape = (hidden[-1] if hidden else features,)
        self.net = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return features ``[B, H]`` or ``[B, C', h, w]`` of ``x [B, C, H, W]``."""
        features: Tensor = self.net(x)
        return features


class ConvEncoderConfig(EncoderConfig):
    """Strided convolutions: Radford et al., DCGAN (2016), section 3, https://arxiv.org/abs/1511.06434."""

    type: Literal["conv"] = "conv"
    channels: tuple[PositiveInt, ...] = Field((32, 64, 64), min_length=1, description="output channels of the layers")
    kernel_size: PositiveInt | tuple[PositiveInt, ...] = Field(3, description="one number, or one a layer")
    stride: PositiveInt | tuple[PositiveInt, ...] = Field(2, description="one number, or one a layer")
    activation: Activation = Field("relu", description="nonlinearity after every hidden layer")
    flatten: bool = Field(True, description="features are a vector; false keeps the map, for spatial latents")
    out_channels: PositiveInt | None = Field(
        None,
        description="channels of a final 1x1 convolution; null: 2C for a map and a spatial latent (C, h, w), else none",
    )
    hidden: tuple[PositiveInt, ...] = Field((), description="widths of fully connected layers after flattening")

    @model_validator(mode="after")
    def _fits(self) -> ConvEncoderConfig:
        per_layer(self.kernel_size, len(self.channels), "kernel_size")
        per_layer(self.stride, len(self.channels), "stride")
        if self.hidden and not self.flatten:
            raise ValueError(f"hidden: fully connected layers {list(self.hidden)} need flatten: true")
        return self

    def build(self, context: BuildContext) -> ConvEncoder:
        """Return the encoder.

        Raises:
            ShapeError: The data are not images, or too small for the layers.
        """
        out_channels = self.out_channels
        if out_channels is None and not self.flatten and len(context.latent_shape) == 3:
            out_channels = 2 * context.latent_shape[0]
        return ConvEncoder(
            context.data.event_shape,
            self.channels,
            self.kernel_size,
            self.stride,
            self.activation,
            self.flatten,
            out_channels,
            self.hidden,
        )
