"""What the autoregressive image decoders have in common: the module around a network, and fields of their configs."""

from __future__ import annotations

from typing import Annotated, Any, cast

import torch
from pydantic import Field, PositiveFloat, PositiveInt, field_validator
from torch import Size, Tensor, nn
from uncollapse.config import BuildContext, DecoderConfig, Installed, LikelihoodConfig
from uncollapse.errors import ShapeError
from uncollapse.likelihoods import BernoulliLikelihoodConfig

from ..weight_norm import initialize_from_data
from .autoregressive import AutoregressiveNetwork, AutoregressivePixels
from .channel_order import ChannelOrder
from .condition import Conditioning, MapsActivation
from .normalization import Normalization

__all__ = ["AutoregressiveDecoder", "AutoregressiveDecoderConfig", "image_shape"]


def image_shape(event_shape: tuple[int, ...], kind: str) -> tuple[int, int, int]:
    """Return ``(C, H, W)``.

    Raises:
        ShapeError: The data are not images; the message names ``kind``, the decoder's type.
    """
    if len(event_shape) != 3:
        raise ShapeError(
            f"model.decoder: a {kind} decodes images of shape (C, H, W), found data of shape {event_shape}; "
            "use data of images, or a decoder for vectors such as mlp"
        )
    return cast("tuple[int, int, int]", tuple(event_shape))


class AutoregressiveDecoder(nn.Module):
    """``p(x|z)`` as a product over the pixels, by a network that is conditioned on ``z``: van den Oord et al.,
    Conditional Image Generation with PixelCNN Decoders (2016), eq. 3, https://arxiv.org/abs/1606.05328.

    Images are fed as they are. The channels of one pixel are independent given earlier pixels and ``z``, unless the
    likelihood couples them or the network has a channel order.

    Args:
        network: An :class:`~uncollapse_images.decoders.autoregressive.AutoregressiveNetwork` and a module, whose
            ``condition`` makes ``[..., *K]`` of latents ``[..., latent_size]``.
        latent_shape: Shape ``D`` of one latent; latents are flattened.
        event_shape: Shape ``X = (C, H, W)`` of an image.
        likelihood: Turns ``[..., O, H, W]`` into the conditionals of the pixels.
        init_scale: Standard deviation of the pre-activations after :meth:`initialize`.
    """

    def __init__(
        self,
        network: nn.Module,
        latent_shape: tuple[int, ...],
        event_shape: tuple[int, ...],
        likelihood: nn.Module,
        init_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.event_shape = Size(event_shape)
        self.latent_shape = Size(latent_shape)
        self.init_scale = init_scale
        self.network = network

    def forward(self, z: Tensor) -> AutoregressivePixels:
        """Return ``p(x|z)``, batch ``[...]``, event ``X``, for ``z [..., *D]``.

        Raises:
            ShapeError: ``z`` does not end in the latent's shape ``D``.
        """
        cut = z.dim() - len(self.latent_shape)
        if cut < 0 or z.shape[cut:] != self.latent_shape:
            raise ShapeError(
                f"model.decoder: it was built for latents of shape {tuple(self.latent_shape)}, found {tuple(z.shape)}; "
                "the last dimensions must be those of one latent"
            )
        conditioning = self.network.condition(z.flatten(cut))  # type: ignore[operator]
        network = cast(AutoregressiveNetwork, self.network)
        return AutoregressivePixels(network, self.likelihood, conditioning, z.shape[:cut], self.event_shape)

    @torch.no_grad()
    def initialize(self, z: Tensor, x: Tensor) -> None:
        """Set gains and biases from ``z [B, *D]`` and ``x [B, *X]`` if weights are normalized, else do nothing."""
        initialize_from_data(self.network, lambda: self(z).teacher_forced(x), self.init_scale)


class AutoregressiveDecoderConfig(DecoderConfig):
    """Fields that the autoregressive image decoders share."""

    kernels: tuple[PositiveInt, ...] = Field(
        (7, 5, 5, 5, 5),
        min_length=1,
        description="odd kernel sizes, one a layer; the first, which does not see the pixel itself, at least 3",
    )
    channels: PositiveInt = Field(64, description="channels between the layers")
    conditioning: Conditioning = Field(
        "bias", description="the latent as a bias of every layer, or as feature maps made from it"
    )
    maps: PositiveInt = Field(4, description="feature maps made from the latent, for conditioning: maps")
    maps_activation: MapsActivation = Field("elu", description="after the linear function that makes the maps")
    normalization: Normalization = Field(
        "none",
        description="weight: normalize weights, and initialize them from data; batch: batch normalization of "
        "pre-activations, whose running statistics count in evaluation and sampling",
    )
    init_scale: PositiveFloat = Field(
        1.0, description="standard deviation of initialized pre-activations, for normalization: weight"
    )
    channel_order: ChannelOrder = Field(
        "joint",
        description="the channels of a pixel: drawn together, or each given the ones before it in this order",
    )
    likelihood: Annotated[LikelihoodConfig, Installed("likelihood")] = Field(
        BernoulliLikelihoodConfig(), description="what the outputs mean: p(x|z) of a value; must fit the data's support"
    )

    def arguments(self, context: BuildContext) -> dict[str, Any]:
        """Return what these fields, data and latent are to a decoder, by the names of its arguments."""
        shared = (
            "kernels",
            "channels",
            "conditioning",
            "maps",
            "maps_activation",
            "normalization",
            "init_scale",
            "channel_order",
        )
        return {
            "latent_shape": context.latent_shape,
            "event_shape": context.data.event_shape,
            "likelihood": self.likelihood.build(context),
            **{name: getattr(self, name) for name in shared},
        }

    @field_validator("kernels")
    @classmethod
    def _odd(cls, kernels: tuple[int, ...]) -> tuple[int, ...]:
        even = [k for k in kernels if k % 2 == 0]
        if even:
            raise ValueError(
                f"kernel sizes must be odd so that a kernel has a centre, found {even[0]} in {list(kernels)}; "
                f"try {even[0] - 1} or {even[0] + 1}"
            )
        if kernels and kernels[0] < 3:
            raise ValueError(
                f"the first kernel must be at least 3, found {kernels[0]}: its centre is masked, and nothing else is "
                "left of a kernel of 1"
            )
        return kernels
