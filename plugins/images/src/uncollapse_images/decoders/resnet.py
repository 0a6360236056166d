"""Residual transposed-convolutional decoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.distributions import Distribution
from uncollapse.config import BuildContext, DecoderConfig, Installed, LikelihoodConfig
from uncollapse.decoders import TransposedConv2d, output_paddings
from uncollapse.encoders import map_sizes, require_image
from uncollapse.likelihoods import BernoulliLikelihoodConfig
from uncollapse.protocols import output_channels

from ..weight_norm import initialize_from_data, weight_normalized

__all__ = ["ResNetDecoder", "ResNetDecoderConfig"]


class TransposedResidualBlock(nn.Module):
    """Pre-activated: with ``a = elu(x)``, ``convT3x3(elu(convT3x3(a))) + convT1x1(a)``, no activation at the end.

    He et al., Identity Mappings in Deep Residual Networks (2016), fig. 1b, https://arxiv.org/abs/1603.05027, with
    ELUs and weight normalization. The first and the last convolution have stride 2.

    Args:
        before: Channels of the input.
        after: Channels of the output.
        small: Height and width of the input.
        large: Height and width of the output.
    """

    def __init__(self, before: int, after: int, small: tuple[int, int], large: tuple[int, int]) -> None:
        super().__init__()
        extra = output_paddings(small, large, 3, 2)
        self.first = weight_normalized(TransposedConv2d(before, after, 3, 2, padding=1, output_padding=extra))
        self.second = weight_normalized(TransposedConv2d(after, after, 3, 1, padding=1))
        self.shortcut = weight_normalized(TransposedConv2d(before, after, 1, 2, output_padding=extra))
        self.activation = nn.ELU()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[B, after, *large]`` for ``x [B, before, *small]``."""
        x = self.activation(x)
        out: Tensor = self.second(self.activation(self.first(x))) + self.shortcut(x)
        return out


class ResNetDecoder(nn.Module):
    """The factorised decoder of MAE's ResNet VAE as released: Ma et al. (2019), appendix B.1.1,
    https://arxiv.org/abs/1901.01498, after Kingma et al. (2016), https://arxiv.org/abs/1606.04934.

    For 28x28: a transposed convolution from the latent to 64 maps of 4x4, ELU, then pre-activated residual blocks of
    stride 2 with 64, 32 and the likelihood's channels at 7, 14 and 28; weight normalization everywhere. Other sizes
    start from the map that three strides of 2 leave, and output padding meets each size exactly.

    Args:
        latent_shape: Shape ``D`` of one latent; a spatial one is flattened.
        event_shape: Shape ``X = (C, H, W)`` of the data; any size.
        likelihood: Turns ``[..., O, H, W]`` into ``p(x|z)``.
        widths: Channels of the smallest map, and of the blocks but the last.

    Raises:
        ShapeError: The data are not images.
    """

    def __init__(
        self,
        latent_shape: tuple[int, ...],
        event_shape: tuple[int, ...],
        likelihood: nn.Module,
        widths: Sequence[int] = (64, 64, 32),
    ) -> None:
        super().__init__()
        data_channels, height, width = require_image(event_shape, "model.decoder")
        sizes = map_sizes((height, width), [3] * len(widths), [2] * len(widths), "model.decoder")[::-1]
        self.likelihood = likelihood
        self.latent_dims = len(latent_shape)
        latent_size = math.prod(latent_shape)
        outputs = output_channels(likelihood, data_channels)
        channels = [*widths, outputs]
        layers: list[nn.Module] = [
            nn.Unflatten(1, (latent_size, 1, 1)),
            weight_normalized(TransposedConv2d(latent_size, channels[0], sizes[0])),
            nn.ELU(),
        ]
        for i in range(len(widths)):
            layers.append(TransposedResidualBlock(channels[i], channels[i + 1], sizes[i], sizes[i + 1]))
        self.net = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Distribution:
        """Return ``p(x|z)``, batch ``[...]``, event ``X``, for ``z [..., *D]``."""
        z = z.flatten(-self.latent_dims)
        outputs: Tensor = self.net(z.reshape(-1, z.shape[-1]))
        distribution: Distribution = self.likelihood(outputs.reshape(*z.shape[:-1], *outputs.shape[1:]))
        return distribution

    def initialize(self, z: Tensor, x: Tensor) -> None:
        """Give the outputs of all layers mean 0 and standard deviation 1 for ``z [B, *D]``; ``x`` is not needed.

        Salimans and Kingma, Weight Normalization (2016), eq. 6, https://arxiv.org/abs/1602.07868.
        """
        initialize_from_data(self, lambda: self(z))


class ResNetDecoderConfig(DecoderConfig):
    """The factorised residual decoder of MAE's ResNet VAE: Ma et al. (2019), appendix B.1.1,
    https://arxiv.org/abs/1901.01498.
    """

    type: Literal["resnet"] = "resnet"
    widths: tuple[PositiveInt, ...] = Field(
        (64, 64, 32), min_length=1, description="channels of the smallest map and of the blocks but the last"
    )
    likelihood: Annotated[LikelihoodConfig, Installed("likelihood")] = Field(
        BernoulliLikelihoodConfig(), description="what the outputs mean: p(x|z) of a value; must fit the data's support"
    )

    def build(self, context: BuildContext) -> ResNetDecoder:
        """Return the decoder.

        Raises:
            ShapeError: The data are not images.
        """
        require_image(context.data.event_shape, "model.decoder")
        likelihood = self.likelihood.build(context)
        return ResNetDecoder(context.latent_shape, context.data.event_shape, likelihood, self.widths)
