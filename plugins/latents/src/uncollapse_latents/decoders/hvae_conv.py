"""Gated-convolutional decoder of one or several levels of latents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.distributions import Distribution
from uncollapse.config import BuildContext, DecoderConfig, Installed, LikelihoodConfig
from uncollapse.encoders import per_layer, require_image
from uncollapse.likelihoods import BernoulliLikelihoodConfig
from uncollapse.protocols import output_channels
from uncollapse_images.gates import GatedConv2d, GatedLinear

from .levels import GatedLevels

__all__ = ["HVAEConvDecoder", "HVAEConvDecoderConfig", "OddSize"]


def _odd(size: int) -> int:
    if size % 2 == 0:
        raise ValueError(f"expected an odd size, so that a kernel has a centre, found {size}; try {size + 1}")
    return size


OddSize = Annotated[PositiveInt, AfterValidator(_odd)]


class HVAEConvDecoder(nn.Module):
    """``p(x|z1, z2)`` by gated convolutions at the data's resolution: ConvHVAE of Tomczak and Welling, VAE with a
    VampPrior (2018), section 5, https://arxiv.org/abs/1705.07120, as released.

    A gated layer of each level, one that joins them into maps of the data's shape, gated convolutions, and a 1x1
    convolution without a gate. With a single level it is the same network without a hierarchy.

    Args:
        latent_shape: Shape ``D`` of one latent; flattened.
        event_shape: Shape ``X = (C, H, W)`` of the data; any size.
        likelihood: Turns ``[..., O, H, W]`` into ``p(x|z)``.
        levels: Dimensions of the levels inside the latent, the bottom one first; None for a single one.
        hidden: Outputs of each level's layer.
        channels: Output channels of the gated convolutions.
        kernel_size: One number, or one a convolution; odd, so that maps keep their size.

    Raises:
        ShapeError: The data are not images, or the levels do not fill the latent.
        ConfigError: ``kernel_size`` has another length than ``channels``.
    """

    def __init__(
        self,
        latent_shape: tuple[int, ...],
        event_shape: tuple[int, ...],
        likelihood: nn.Module,
        levels: Sequence[int] | None = None,
        hidden: int = 300,
        channels: Sequence[int] = (64, 64, 64, 64),
        kernel_size: int | Sequence[int] = 3,
    ) -> None:
        super().__init__()
        before, _, _ = shape = require_image(event_shape, "model.decoder")
        kernels = per_layer(kernel_size, len(channels), "model.decoder.kernel_size")
        self.likelihood = likelihood
        self.levels = GatedLevels(latent_shape, levels, hidden)
        self.joint = GatedLinear(self.levels.out_features, math.prod(shape))
        layers: list[nn.Module] = [nn.Unflatten(1, shape)]
        outputs = output_channels(likelihood, before)
        for after, kernel in zip(channels, kernels, strict=True):
            layers.append(GatedConv2d(before, after, kernel))
            before = after
        self.net = nn.Sequential(*layers, nn.Conv2d(before, outputs, 1))

    def forward(self, z: Tensor) -> Distribution:
        """Return ``p(x|z)``, batch ``[...]``, event ``X``, for ``z [..., *D]``."""
        maps = self.joint(self.levels(z))
        outputs: Tensor = self.net(maps.reshape(-1, maps.shape[-1]))
        distribution: Distribution = self.likelihood(outputs.reshape(*maps.shape[:-1], *outputs.shape[1:]))
        return distribution


class HVAEConvDecoderConfig(DecoderConfig):
    """Gated convolutions on one or several levels of latents: ConvHVAE of Tomczak and Welling (2018), section 5,
    https://arxiv.org/abs/1705.07120, as released.
    """

    type: Literal["hvae_conv"] = "hvae_conv"
    top_dim: PositiveInt | None = Field(
        None, description="dimension of the top level, the last part of the latent; null: the levels of the posterior"
    )
    hidden: PositiveInt = Field(300, description="outputs of each level's layer")
    channels: tuple[PositiveInt, ...] = Field(
        (64, 64, 64, 64), min_length=1, description="output channels of the gated convolutions"
    )
    kernel_size: OddSize | tuple[OddSize, ...] = Field(3, description="odd; one number, or one a convolution")
    likelihood: Annotated[LikelihoodConfig, Installed("likelihood")] = Field(
        BernoulliLikelihoodConfig(), description="what the outputs mean: p(x|z) of a value; must fit the data's support"
    )

    @model_validator(mode="after")
    def _fits(self) -> HVAEConvDecoderConfig:
        per_layer(self.kernel_size, len(self.channels), "kernel_size")
        return self

    def build(self, context: BuildContext) -> HVAEConvDecoder:
        """Return the decoder.

        Raises:
            ShapeError: The data are not images.
            ConfigError: ``top_dim`` is not that of the posterior.
        """
        event_shape = context.data.event_shape
        require_image(event_shape, "model.decoder")
        return HVAEConvDecoder(
            context.latent_shape,
            event_shape,
            self.likelihood.build(context),
            context.levels("model.decoder", self.top_dim),
            self.hidden,
            self.channels,
            self.kernel_size,
        )
