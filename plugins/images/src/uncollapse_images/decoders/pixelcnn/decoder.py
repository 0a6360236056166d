"""Masked PixelCNN decoder: an autoregressive ``p(x|z)`` strong enough to do without its latent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, PositiveInt, model_validator
from torch import nn
from uncollapse.config import BuildContext
from uncollapse.protocols import output_channels

from ..autoregressive_decoder import AutoregressiveDecoder, AutoregressiveDecoderConfig, image_shape
from ..channel_order import ChannelOrder, ChannelOrdering
from ..condition import Conditioning, MapsActivation
from ..normalization import Normalization
from .network import PixelCNN

__all__ = ["PRESETS", "PixelCNNDecoder", "PixelCNNDecoderConfig"]

_RELEASED: dict[str, Any] = {
    "long_skips": True,
    "channels": 64,
    "hidden": 32,
    "conditioning": "maps",
    "maps": 4,
    "maps_activation": "elu",
    "normalization": "weight",
}
PRESETS: dict[str, dict[str, Any]] = {
    "small": {"kernels": (7, 7, 7, 5, 5, 3, 3), **_RELEASED},
    "large": {"kernels": (7, 7, 7, 7, 7, 5, 5, 5, 5, 3, 3, 3, 3), **_RELEASED},
}
"""The decoders of MAE's released code for binary images (Ma et al., 2019), by its names for them."""


class PixelCNNDecoder(AutoregressiveDecoder):
    """``p(x|z)`` as a masked PixelCNN conditioned on ``z``: Ma et al., MAE (2019), appendix B.1.1; van den Oord et al.,
    Conditional Image Generation with PixelCNN Decoders (2016), section 2.4, https://arxiv.org/abs/1606.05328.

    The binary decoder of MAE's paper has ``kernels=(7, 7, 5, 5, 3, 3)``, 64 channels, ``conditioning="maps"`` and
    ``normalization="weight"``; the released ones have other kernels and long skips (:data:`PRESETS`). That of DU-VAE's
    released code (Shen et al., 2021) is the large one with ``normalization="batch"`` and ``maps_activation="none"``.

    Args:
        latent_shape: Shape ``D`` of one latent; latents are flattened.
        event_shape: Shape ``X = (C, H, W)`` of an image.
        likelihood: Turns ``[..., O, H, W]`` into the conditionals of the pixels.
        kernels: Odd kernel sizes; the first is that of the type-A layer, each other one that of a residual block.
        channels: Channels between the blocks.
        hidden: Channels inside a block; half of ``channels`` by default.
        conditioning: ``z`` enters as a ``bias`` of every masked convolution, or as ``maps`` beside the image.
        maps: Number of maps for ``maps``.
        maps_activation: After the linear function that makes the maps.
        long_skips: Further blocks from the output of layer ``i`` to the input of layer ``i + 3``.
        normalization: ``weight``: :meth:`initialize` then sets gains and biases from data. ``batch``: of the
            pre-activations; densities in training mode couple the images of a batch, samples never do.
        init_scale: Standard deviation of the pre-activations after :meth:`initialize`.
        channel_order: The channels of a pixel are independent (``joint``), or drawn in this order.

    Raises:
        ShapeError: The data are not images, or a kernel size is impossible.
        ConfigError: The channel order does not go with the likelihood or the widths.
    """

    network: PixelCNN

    def __init__(
        self,
        latent_shape: tuple[int, ...],
        event_shape: tuple[int, ...],
        likelihood: nn.Module,
        kernels: Sequence[int] = (7, 5, 5, 5, 5),
        channels: int = 64,
        hidden: int | None = None,
        conditioning: Conditioning = "bias",
        maps: int = 4,
        *,
        maps_activation: MapsActivation = "elu",
        long_skips: bool = False,
        normalization: Normalization = "none",
        init_scale: float = 1.0,
        channel_order: ChannelOrder = "joint",
    ) -> None:
        shape = image_shape(event_shape, "pixelcnn")
        ordering = ChannelOrdering.of(channel_order, shape[0])
        ordering.check(likelihood)
        network = PixelCNN(
            math.prod(latent_shape),
            shape,
            output_channels(likelihood, shape[0]),
            kernels,
            channels,
            hidden or max(channels // 2, 1),
            conditioning,
            maps,
            maps_activation=maps_activation,
            long_skips=long_skips,
            normalization=normalization,
            ordering=ordering,
        )
        super().__init__(network, latent_shape, event_shape, likelihood, init_scale)


class PixelCNNDecoderConfig(AutoregressiveDecoderConfig):
    """An autoregressive decoder of images: Ma et al., MAE (2019), appendix B.1.1; van den Oord et al., Pixel Recurrent
    Neural Networks (2016), section 3.4, https://arxiv.org/abs/1601.06759.
    """

    type: Literal["pixelcnn"] = "pixelcnn"
    preset: Literal["small", "large"] | None = Field(
        None,
        description="the decoder of MAE's released code by that name: kernels, long skips, 64 channels, four maps, "
        "weight normalization; fields beside it replace its own",
    )
    hidden: PositiveInt | None = Field(None, description="channels inside a block; null for half of channels")
    long_skips: bool = Field(False, description="further blocks from the output of layer i to the input of layer i + 3")
    weight_norm: bool = Field(False, description="the same as normalization: weight")

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        preset = given.get("preset")
        if isinstance(preset, str) and preset in PRESETS:
            given = {**PRESETS[preset], **given}
        if given.get("weight_norm") is True:
            # The field says what normalization says: a dumped config holds both.
            given = {"normalization": "weight", **given}
        return given

    @model_validator(mode="after")
    def _consistent(self) -> PixelCNNDecoderConfig:
        if self.weight_norm and self.normalization != "weight":
            raise ValueError(
                f"weight_norm: true means normalization: weight, found normalization: {self.normalization} beside it; "
                "leave one of them out"
            )
        if self.long_skips and len(self.kernels) < 3:
            raise ValueError(
                f"long_skips lead from a layer to the third one after it, found {len(self.kernels)} kernels; give at "
                "least 3, or turn long_skips off"
            )
        return self

    def build(self, context: BuildContext) -> PixelCNNDecoder:
        """Return the decoder.

        Raises:
            ShapeError: The data are not images.
            ConfigError: The channel order does not go with the likelihood or the widths.
        """
        return PixelCNNDecoder(**self.arguments(context), hidden=self.hidden, long_skips=self.long_skips)
