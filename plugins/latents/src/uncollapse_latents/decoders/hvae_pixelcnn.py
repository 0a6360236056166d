"""Plain masked convolutions behind one or several levels of latents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal, cast

import torch
from pydantic import Field, PositiveInt, field_validator
from torch import Tensor, nn
from torch.nn import functional
from uncollapse.config import BuildContext, DecoderConfig, Installed, LikelihoodConfig
from uncollapse.likelihoods import BernoulliLikelihoodConfig
from uncollapse.protocols import output_channels
from uncollapse_images.decoders import (
    AutoregressiveDecoder,
    CachedMaskedConv,
    IncrementalPixels,
    MaskedConv2d,
    image_shape,
    pointwise,
)

from .hvae_conv import OddSize
from .levels import GatedLevels

__all__ = ["HVAEPixelCNN", "HVAEPixelCNNDecoder", "HVAEPixelCNNDecoderConfig", "LatentMask"]

LatentMask = Literal["masked", "visible"]


class HVAEPixelCNN(nn.Module):
    """Masked convolutions over an image and maps of its latent: PixelHVAE of Tomczak and Welling, VAE with a VampPrior
    (2018), section 5, https://arxiv.org/abs/1705.07120, as released.

    A gated layer makes maps of the image's shape from each level of the latent; they are further channels of the
    image. One masked convolution of type A and others of type B follow, with batch normalization and ReLU behind each,
    and a 1x1 convolution.

    Args:
        latent_shape: Shape ``D`` of one latent; flattened.
        event_shape: Shape ``(C, H, W)`` of an image.
        out_channels: Numbers per position of the output.
        levels: Dimensions of the levels inside the latent, the bottom one first; None for a single one.
        kernels: Odd kernel sizes, the first of the type-A layer, at least 3.
        channels: Output channels of the masked convolutions.
        latent_mask: ``masked``: the first layer hides the maps at its own and later positions, as it hides the image.
            A pixel knows of the latent only through earlier positions, and the first pixel nothing. ``visible``: it
            sees the maps all around.
    """

    def __init__(
        self,
        latent_shape: tuple[int, ...],
        event_shape: tuple[int, int, int],
        out_channels: int,
        levels: Sequence[int] | None = None,
        kernels: Sequence[int] = (3,) * 8,
        channels: int = 64,
        latent_mask: LatentMask = "masked",
    ) -> None:
        super().__init__()
        image, _, self.width = event_shape
        gated = GatedLevels(latent_shape, levels, math.prod(event_shape))
        maps = image * len(gated.levels)
        self.masked = latent_mask == "masked"
        self.condition = nn.Sequential(gated, nn.Unflatten(-1, (maps, *event_shape[1:])))
        # Batch normalization brings biases of its own.
        self.first = MaskedConv2d(
            image + maps if self.masked else image,
            channels,
            kernels[0],
            include_centre=False,
            visible_channels=0 if self.masked else maps,
            bias=False,
        )
        self.layers = nn.ModuleList(
            MaskedConv2d(channels, channels, kernel, include_centre=True, bias=False) for kernel in kernels[1:]
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in kernels)
        self.head = nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, conditioning: Tensor) -> Tensor:
        """Return ``[N, out_channels, H, W]`` for images ``x [B, C, H, W]`` and maps ``[N, K, H, W]`` of the latents.

        Row ``s * B + b`` of the maps belongs to image ``b``.
        """
        x = x.to(self.first.weight.dtype)
        if self.masked:
            repeated = x.repeat(len(conditioning) // len(x), 1, 1, 1)
            h = self.first(torch.cat([repeated, conditioning.to(x.dtype)], dim=1))
        else:
            h = self.first(x, conditioning)
        h = functional.relu(self.norms[0](h), inplace=True)
        for layer, norm in zip(self.layers, self.norms[1:], strict=True):
            h = functional.relu(norm(layer(h)), inplace=True)
        outputs: Tensor = self.head(h)
        return outputs

    def incremental(self, conditioning: Tensor) -> IncrementalPixels:
        """Return a state for drawing ``N`` images, conditioned on maps ``[N, K, H, W]`` of the latents."""
        return _Incremental(self, conditioning)


class _Incremental:
    """The features of the row that is being drawn, layer by layer."""

    def __init__(self, network: HVAEPixelCNN, conditioning: Tensor) -> None:
        count, width = len(conditioning), network.width
        beside = None if network.masked else conditioning
        self._first = CachedMaskedConv(network.first, network.norms[0], beside, count, width)
        self._layers = [
            CachedMaskedConv(cast(MaskedConv2d, layer), norm, None, count, width)
            for layer, norm in zip(network.layers, network.norms[1:], strict=True)
        ]
        self._head = pointwise(network.head)
        # [H, W, N, K]: what a position's slot gets beside the pixel.
        self._maps = conditioning.permute(2, 3, 0, 1) if network.masked else None

    def outputs(self, row: int, column: int) -> Tensor:
        """Return the outputs at a position, ``[N, O, 1, 1]``."""
        if column == 0:
            for layer in (self._first, *self._layers):
                layer.start(row)
        h = self._first.output(column).relu_()
        for layer in self._layers:
            layer.slots[column].copy_(h)
            h = layer.output(column).relu_()
        return torch.addmm(self._head[0], h, self._head[1])[:, :, None, None]

    def put(self, row: int, column: int, pixel: Tensor) -> None:
        """Keep ``pixel [N, C]``."""
        slot = self._first.slots[column]
        if self._maps is None:
            slot.copy_(pixel)
        else:
            slot.copy_(torch.cat([pixel.to(slot.dtype), self._maps[row, column].to(slot.dtype)], dim=1))


class HVAEPixelCNNDecoder(AutoregressiveDecoder):
    """``p(x|z1, z2)`` by masked convolutions: PixelHVAE of Tomczak and Welling, VAE with a VampPrior (2018), section 5,
    https://arxiv.org/abs/1705.07120, as released. See :class:`HVAEPixelCNN`.

    Where the paper does not say whether the first layer's mask hides the latent's maps too, the released code does
    (``latent_mask="masked"``). With a single level it is the same network without a hierarchy. In training, batch
    normalization lets a pixel's density depend on the whole batch; in evaluation it does not.

    Args:
        latent_shape: Shape ``D`` of one latent; flattened.
        event_shape: Shape ``X = (C, H, W)`` of an image; any size.
        likelihood: Turns ``[..., O, H, W]`` into the conditionals of the pixels.
        levels: Dimensions of the levels inside the latent, the bottom one first; None for a single one.
        kernels: Odd kernel sizes, the first of the type-A layer, at least 3.
        channels: Output channels of the masked convolutions.
        latent_mask: ``masked`` or ``visible``.

    Raises:
        ShapeError: The data are not images, a kernel size is impossible, or the levels do not fill the latent.
    """

    def __init__(
        self,
        latent_shape: tuple[int, ...],
        event_shape: tuple[int, ...],
        likelihood: nn.Module,
        levels: Sequence[int] | None = None,
        kernels: Sequence[int] = (3,) * 8,
        channels: int = 64,
        latent_mask: LatentMask = "masked",
    ) -> None:
        shape = image_shape(event_shape, "hvae_pixelcnn")
        # A decoder hands its network flat latents.
        flat, outputs = (math.prod(latent_shape),), output_channels(likelihood, shape[0])
        network = HVAEPixelCNN(flat, shape, outputs, levels, kernels, channels, latent_mask)
        super().__init__(network, latent_shape, event_shape, likelihood)


class HVAEPixelCNNDecoderConfig(DecoderConfig):
    """Masked convolutions on one or several levels of latents: PixelHVAE of Tomczak and Welling (2018), section 5,
    https://arxiv.org/abs/1705.07120, as released.
    """

    type: Literal["hvae_pixelcnn"] = "hvae_pixelcnn"
    top_dim: PositiveInt | None = Field(
        None, description="dimension of the top level, the last part of the latent; null: the levels of the posterior"
    )
    kernels: tuple[OddSize, ...] = Field(
        (3,) * 8,
        min_length=1,
        description="odd kernel sizes, one a layer; the first, which does not see the pixel itself, at least 3",
    )
    channels: PositiveInt = Field(64, description="output channels of the masked convolutions")
    latent_mask: LatentMask = Field(
        "masked",
        description="whether the first layer hides the latent's maps at its own and later positions, as the released "
        "code does, or sees them all around",
    )
    likelihood: Annotated[LikelihoodConfig, Installed("likelihood")] = Field(
        BernoulliLikelihoodConfig(), description="what the outputs mean: p(x|z) of a value; must fit the data's support"
    )

    @field_validator("kernels")
    @classmethod
    def _first_sees_something(cls, kernels: tuple[int, ...]) -> tuple[int, ...]:
        if kernels and kernels[0] < 3:
            raise ValueError(f"the first kernel must be at least 3, found {kernels[0]}: its centre is masked")
        return kernels

    def build(self, context: BuildContext) -> HVAEPixelCNNDecoder:
        """Return the decoder.

        Raises:
            ShapeError: The data are not images.
            ConfigError: ``top_dim`` is not that of the posterior.
        """
        image_shape(context.data.event_shape, "hvae_pixelcnn")
        return HVAEPixelCNNDecoder(
            context.latent_shape,
            context.data.event_shape,
            self.likelihood.build(context),
            context.levels("model.decoder", self.top_dim),
            self.kernels,
            self.channels,
            self.latent_mask,
        )
