"""Gated PixelCNN decoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, PositiveInt
from torch import nn
from uncollapse.config import BuildContext
from uncollapse.protocols import output_channels

from ..autoregressive_decoder import AutoregressiveDecoder, AutoregressiveDecoderConfig, image_shape
from ..channel_order import ChannelOrder, ChannelOrdering
from ..condition import Conditioning, MapsActivation
from ..normalization import Normalization
from .network import ConditionedStacks, GatedPixelCNN

__all__ = ["GatedPixelCNNDecoder", "GatedPixelCNNDecoderConfig"]


class GatedPixelCNNDecoder(AutoregressiveDecoder):
    """``p(x|z)`` as a gated PixelCNN conditioned on ``z`` in every gate: van den Oord et al., Conditional Image
    Generation with PixelCNN Decoders (2016), section 2, https://arxiv.org/abs/1606.05328.

    See :class:`GatedPixelCNN`. The paper does not state kernel sizes or the width of the head.

    Args:
        latent_shape: Shape ``D`` of one latent; latents are flattened.
        event_shape: Shape ``X = (C, H, W)`` of an image.
        likelihood: Turns ``[..., O, H, W]`` into the conditionals of the pixels.
        kernels: Odd kernel sizes, one a layer.
        channels: Channels of the layers.
        head: Channels between the last two 1x1 convolutions; ``channels`` by default.
        conditioning: ``z`` as a ``bias`` of the gates, or as ``maps``.
        maps: Number of maps for ``maps``.
        maps_activation: After the linear function that makes the maps.
        condition: The stacks whose gates get ``z``: ``both``, or the ``horizontal`` one alone.
        normalization: ``weight``: :meth:`initialize` then sets gains and biases from data. ``batch``: of the
            convolutions' outputs; densities in training mode couple the images of a batch, samples never do.
        init_scale: Standard deviation of the pre-activations after :meth:`initialize`.
        channel_order: The channels of a pixel are independent (``joint``), or drawn in this order.

    Raises:
        ShapeError: The data are not images.
        ConfigError: The channel order does not go with the likelihood or the widths.
    """

    network: GatedPixelCNN

    def __init__(
        self,
        latent_shape: tuple[int, ...],
        event_shape: tuple[int, ...],
        likelihood: nn.Module,
        kernels: Sequence[int] = (7, 5, 5, 5, 5),
        channels: int = 64,
        head: int | None = None,
        conditioning: Conditioning = "bias",
        maps: int = 4,
        *,
        maps_activation: MapsActivation = "elu",
        condition: ConditionedStacks = "both",
        normalization: Normalization = "none",
        init_scale: float = 1.0,
        channel_order: ChannelOrder = "joint",
    ) -> None:
        shape = image_shape(event_shape, "gated_pixelcnn")
        ordering = ChannelOrdering.of(channel_order, shape[0])
        ordering.check(likelihood)
        network = GatedPixelCNN(
            math.prod(latent_shape),
            shape,
            output_channels(likelihood, shape[0]),
            kernels,
            channels,
            head or channels,
            conditioning,
            maps,
            maps_activation=maps_activation,
            condition=condition,
            normalization=normalization,
            ordering=ordering,
        )
        super().__init__(network, latent_shape, event_shape, likelihood, init_scale)


class GatedPixelCNNDecoderConfig(AutoregressiveDecoderConfig):
    """An autoregressive decoder of images with gates and two stacks: van den Oord et al., Conditional Image Generation
    with PixelCNN Decoders (2016), section 2, https://arxiv.org/abs/1606.05328.
    """

    type: Literal["gated_pixelcnn"] = "gated_pixelcnn"
    head: PositiveInt | None = Field(None, description="channels between the last two 1x1 convolutions; null: channels")
    condition: Literal["both", "horizontal"] = Field(
        "both",
        description="stacks whose gates get the latent; with horizontal alone the vertical stack, most of the work, is "
        "shared by all samples of an image's latent",
    )

    def build(self, context: BuildContext) -> GatedPixelCNNDecoder:
        """Return the decoder.

        Raises:
            ShapeError: The data are not images.
            ConfigError: The channel order does not go with the likelihood or the widths.
        """
        return GatedPixelCNNDecoder(**self.arguments(context), head=self.head, condition=self.condition)
