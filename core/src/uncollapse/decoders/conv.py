"""Transposed-convolutional decoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.distributions import Distribution

from ..component import BuildContext
from ..config.installed import Installed
from ..encoders.conv import map_sizes, per_layer, require_image
from ..encoders.mlp import ACTIVATIONS, Activation, mlp
from ..kinds import DecoderConfig, LikelihoodConfig
from ..likelihoods.likelihoods import BernoulliLikelihoodConfig
from ..protocols import output_channels
from .transposed_conv import TransposedConv2d

__all__ = ["ConvDecoder", "ConvDecoderConfig", "ConvDecoderFields", "output_paddings"]


def output_paddings(
    small: tuple[int, int], large: tuple[int, int], kernel: int, stride: int
) -> tuple[int, int]:  # fmt: skip
    """Return the output padding with which a transposed convolution takes a ``small`` map to a ``large`` one.

    The sizes are those before and after the convolution that it transposes, which has padding ``(kernel - 1) // 2``.
    """
    reach = kernel - 2 * ((kernel - 1) // 2)
    height, width = (after - (before - 1) * stride - reach for before, after in zip(small, large, strict=True))
    return height, width


class ConvDecoder(nn.Module):
    """A linear layer to a small map, then transposed convolutions to the data's size: Radford et al., DCGAN (2016),
    section 3, https://arxiv.org/abs/1511.06434, without its normalization.

    The mirror image of :class:`~uncollapse.encoders.ConvEncoder` with ``channels``, ``kernel_size`` and ``stride`` in
    reverse: output padding makes up for sizes that a stride does not divide, so every size is met exactly. A spatial
    latent whose map has the size of the smallest one is read by a 1x1 convolution instead of the linear layer.

    Args:
        latent_shape: Shape ``D`` of one latent.
        event_shape: Shape ``X = (C, H, W)`` of the data.
        likelihood: Turns ``[..., O, H, W]`` into ``p(x|z)``.
        channels: Channels of the maps from the smallest on; as many as there are transposed convolutions.
        kernel_size: One number, or one a layer.
        stride: One number, or one a layer.
        activation: After every layer but the last.
        hidden: Widths of fully connected layers before the small map.

    Raises:
        ShapeError: The data are not images, or too small for the layers.
        ConfigError: ``kernel_size`` or ``stride`` has another length than ``channels``.
    """

    def __init__(
        self,
        latent_shape: tuple[int, ...],
        event_shape: tuple[int, ...],
        likelihood: nn.Module,
        channels: Sequence[int] = (64, 64, 32),
        kernel_size: int | Sequence[int] = 3,
        stride: int | Sequence[int] = 2,
        activation: Activation = "relu",
        hidden: Sequence[int] = (),
    ) -> None:
        super().__init__()
        data_channels, height, width = require_image(event_shape, "model.decoder")
        kernels = per_layer(kernel_size, len(channels), "model.decoder.kernel_size")
        strides = per_layer(stride, len(channels), "model.decoder.stride")
        sizes = map_sizes((height, width), kernels[::-1], strides[::-1], "model.decoder")[::-1]
        self.likelihood = likelihood
        self.latent_shape = tuple(latent_shape)
        outputs = output_channels(likelihood, data_channels)
        act = ACTIVATIONS[activation]
        self.stem: nn.Module
        if self.latent_shape[1:] == sizes[0] and not hidden:
            self.stem = nn.Sequential(nn.Conv2d(self.latent_shape[0], channels[0], 1), act())
        else:
            units = channels[0] * math.prod(sizes[0])
            dense = mlp([math.prod(self.latent_shape), *hidden, units], activation, last=True)
            self.stem = nn.Sequential(nn.Flatten(), dense, nn.Unflatten(1, (channels[0], *sizes[0])))
        layers: list[nn.Module] = []
        widths = [*channels, outputs]
        for i, (kernel, step) in enumerate(zip(kernels, strides, strict=True)):
            padding, extra = (kernel - 1) // 2, output_paddings(sizes[i], sizes[i + 1], kernel, step)
            layers.append(TransposedConv2d(widths[i], widths[i + 1], kernel, step, padding, extra))
            if i < len(channels) - 1:
                layers.append(act())
        self.net = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Distribution:
        """Return ``p(x|z)``, batch ``[...]``, event ``X``, for ``z [..., *D]``."""
        lead = z.shape[: z.dim() - len(self.latent_shape)]
        outputs: Tensor = self.net(self.stem(z.reshape(-1, *self.latent_shape)))
        distribution: Distribution = self.likelihood(outputs.reshape(*lead, *outputs.shape[1:]))
        return distribution


class ConvDecoderFields(DecoderConfig):
    """Fields of decoders of transposed convolutions, and the arguments that they stand for."""

    channels: tuple[PositiveInt, ...] = Field(
        (64, 64, 32), min_length=1, description="channels of the maps, the smallest map's first"
    )
    kernel_size: PositiveInt | tuple[PositiveInt, ...] = Field(3, description="one number, or one a layer")
    stride: PositiveInt | tuple[PositiveInt, ...] = Field(2, description="one number, or one a layer")
    activation: Activation = Field("relu", description="nonlinearity after every hidden layer")
    hidden: tuple[PositiveInt, ...] = Field((), description="widths of fully connected layers before the small map")
    likelihood: Annotated[LikelihoodConfig, Installed("likelihood")] = Field(
        BernoulliLikelihoodConfig(), description="what the outputs mean: p(x|z) of a value; must fit the data's support"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        per_layer(self.kernel_size, len(self.channels), "kernel_size")
        per_layer(self.stride, len(self.channels), "stride")
        return self

    def arguments(self, context: BuildContext) -> dict[str, Any]:
        """Return the arguments of :class:`ConvDecoder` by name.

        Raises:
            ShapeError: The data are not images.
        """
        event_shape = context.data.event_shape
        require_image(event_shape, "model.decoder")
        return {
            "latent_shape": context.latent_shape,
            "event_shape": event_shape,
            "likelihood": self.likelihood.build(context),
            "channels": self.channels,
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "activation": self.activation,
            "hidden": self.hidden,
        }


class ConvDecoderConfig(ConvDecoderFields):
    """Transposed convolutions: Radford et al., DCGAN (2016), section 3, https://arxiv.org/abs/1511.06434."""

    type: Literal["conv"] = "conv"

    def build(self, context: BuildContext) -> ConvDecoder:
        """Return the decoder.

        Raises:
            ShapeError: The data are not images, or too small for the layers.
        """
        return ConvDecoder(**self.arguments(context))
