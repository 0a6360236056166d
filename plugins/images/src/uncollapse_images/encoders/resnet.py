"""Residual convolutional encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn
from uncollapse.config import BuildContext, EncoderConfig
from uncollapse.encoders import map_sizes, require_image

from ..weight_norm import initialize_from_data, weight_normalized

__all__ = ["Normalization", "ResNetEncoder", "ResNetEncoderConfig"]

Normalization = Literal["weight", "batch"]


def _conv(
    before: int, after: int, kernel: int | tuple[int, int], stride: int, padding: int, normalization: Normalization
) -> nn.Module:
    if normalization == "weight":
        return weight_normalized(nn.Conv2d(before, after, kernel, stride, padding))
    # The bias of a convolution would be cancelled by the mean that batch normalization takes away.
    return nn.Sequential(nn.Conv2d(before, after, kernel, stride, padding, bias=False), nn.BatchNorm2d(after))


class ResidualBlock(nn.Module):
    """``elu(conv3x3(elu(conv3x3(x))) + conv1x1(x))``, the first and the last with stride 2.

    He et al., Deep Residual Learning (2016), fig. 2 and eq. 2, https://arxiv.org/abs/1512.03385, with the ELUs and
    normalization of Chen et al., VLAE (2017), https://arxiv.org/abs/1611.02731.
    """

    def __init__(self, before: int, after: int, normalization: Normalization) -> None:
        super().__init__()
        self.first = _conv(before, after, 3, 2, 1, normalization)
        self.second = _conv(after, after, 3, 1, 1, normalization)
        self.shortcut = _conv(before, after, 1, 2, 0, normalization)
        self.activation = nn.ELU()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[B, after, ceil(H/2), ceil(W/2)]`` for ``x [B, before, H, W]``."""
        out: Tensor = self.activation(self.second(self.activation(self.first(x))) + self.shortcut(x))
        return out


class ResNetEncoder(nn.Module):
    """Residual blocks of stride 2, then one convolution over the whole remaining map.

    The encoder of MAE (Ma et al., 2019, appendix B.1.1, https://arxiv.org/abs/1901.01498) as released, after VLAE's
    (Chen et al., 2017, https://arxiv.org/abs/1611.02731): for 28x28, blocks of 32, 64, 64 to 14, 7 and 4, then 4x4
    to 512 features. With ``normalization="batch"`` and widths 64, 64, 64, that of DU-VAE (Shen et al., 2021,
    section 4, https://arxiv.org/abs/2110.12381).

    Args:
        event_shape: Shape ``X = (C, H, W)`` of the data; any size.
        widths: Channels of the blocks.
        features: Width ``H`` of the features.
        normalization: ``weight``: weight normalization, initialized from data; ``batch``: batch normalization.

    Raises:
        ShapeError: The data are not images.
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        widths: Sequence[int] = (32, 64, 64),
        features: int = 512,
        normalization: Normalization = "weight",
    ) -> None:
        super().__init__()
        channels, height, width = require_image(event_shape, "model.encoder")
        rest = map_sizes((height, width), [3] * len(widths), [2] * len(widths), "model.encoder")[-1]
        layers: list[nn.Module] = []
        for width_after in widths:
            layers.append(ResidualBlock(channels, width_after, normalization))
            channels = width_after
        layers += [_conv(channels, features, rest, 1, 0, normalization), nn.ELU(), nn.Flatten()]
        self.net = nn.Sequential(*layers)
        self.feature_shape: tuple[int, ...] = (features,)

    def forward(self, x: Tensor) -> Tensor:
        """Return features ``[B, H]`` of ``x [B, C, H, W]``."""
        features: Tensor = self.net(x)
        return features

    def initialize(self, x: Tensor) -> None:
        """Give the outputs of weight-normalized layers mean 0 and standard deviation 1 on ``x [B, C, H, W]``.

        Salimans and Kingma (2016), eq. 6. Batch normalization needs and gets no initialization.
        """
        initialize_from_data(self, lambda: self(x))


class ResNetEncoderConfig(EncoderConfig):
    """Residual blocks: MAE (Ma et al., 2019), appendix B.1.1, https://arxiv.org/abs/1901.01498; with normalization
    'batch' and widths 64, 64, 64 that of DU-VAE (Shen et al., 2021), https://arxiv.org/abs/2110.12381.
    """

    type: Literal["resnet"] = "resnet"
    widths: tuple[PositiveInt, ...] = Field((32, 64, 64), min_length=1, description="channels of the blocks, stride 2")
    features: PositiveInt = Field(512, description="width of the features")
    normalization: Normalization = Field("weight", description="'weight', initialized from data, or 'batch'")

    def build(self, context: BuildContext) -> ResNetEncoder:
        """Return the encoder.

        Raises:
            ShapeError: The data are not images.
        """
        return ResNetEncoder(context.data.event_shape, self.widths, self.features, self.normalization)
