"""Masked residual convolutions over an image, conditioned on a latent."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..autoregressive import IncrementalPixels
from ..channel_order import JOINT, ChannelOrdering
from ..condition import Conditioning, LatentCondition, MapsActivation
from ..masked_conv import MaskedConv2d, convolution1x1
from ..normalization import Normalization, normalize_weights, normalizer
from .blocks import Bottleneck, through_blocks
from .incremental import IncrementalPixelCNN

__all__ = ["PixelCNN"]


class PixelCNN(nn.Module):
    """Masked convolutions over an image, conditioned on a latent.

    A masked convolution of type A, residual bottleneck blocks with masked convolutions of type B, and a head of two
    1x1 convolutions, with ELU between all of them, as in the released code of Ma et al., MAE (2019), whose sections
    4.1 and B.1.1 describe it. Masks: van den Oord et al., Pixel Recurrent Neural Networks (2016), section 3.4,
    https://arxiv.org/abs/1601.06759.

    Args:
        latent_size: Numbers in one latent.
        event_shape: Shape ``(C, H, W)`` of an image.
        out_channels: Numbers per position of the output.
        kernels: Odd kernel sizes, the first of the type-A layer (at least 3), the others of the blocks.
        channels: Channels between the blocks.
        hidden: Channels inside a block.
        conditioning: ``bias``: every masked convolution gets a linear function of the latent as a bias per channel,
            the same everywhere (van den Oord et al., Conditional Image Generation with PixelCNN Decoders, 2016, eq. 4,
            https://arxiv.org/abs/1606.05328). ``maps``: the first layer sees feature maps made from the latent,
            unmasked (MAE's released code).
        maps: Number of feature maps for ``maps``.
        maps_activation: After the linear function that makes the maps.
        long_skips: Further blocks lead from the output of layer ``i`` to the input of layer ``i + 3``, those of the
            last layers to the result (MAE's released code). Skip block ``i`` has the kernel of layer ``i + 1``. Needs
            three layers.
        normalization: ``weight``: Salimans and Kingma (2016) for every layer (MAE). ``batch``: batch normalization of
            every pre-activation but the last layer's, and layers without biases (the released code of Shen et al.,
            DU-VAE, 2021).
        ordering: In which order the channels of a pixel are drawn.
    """

    def __init__(
        self,
        latent_size: int,
        event_shape: tuple[int, int, int],
        out_channels: int,
        kernels: Sequence[int],
        channels: int,
        hidden: int,
        conditioning: Conditioning,
        maps: int,
        *,
        maps_activation: MapsActivation = "elu",
        long_skips: bool = False,
        normalization: Normalization = "none",
        ordering: ChannelOrdering = JOINT,
    ) -> None:
        super().__init__()
        as_bias = latent_size if conditioning == "bias" else 0
        bias = normalization != "batch"
        self.width = event_shape[2]
        self.channel_order = ordering.order
        features = ordering.features(channels)
        image, outputs = ordering.values(event_shape[0]), ordering.values(out_channels)
        self.condition = LatentCondition(latent_size, event_shape[1:], conditioning, maps, maps_activation)
        self.first = MaskedConv2d(
            event_shape[0],
            channels,
            kernels[0],
            include_centre=ordering.order is not None,
            visible_channels=0 if as_bias else maps,
            latent_size=as_bias,
            bias=bias,
            centre=ordering.connections(image, features, strict=True),
        )
        self.first_norm = normalizer(normalization, channels)

        def blocks(sizes: Sequence[int]) -> nn.ModuleList:
            return nn.ModuleList(Bottleneck(channels, hidden, k, as_bias, normalization, ordering) for k in sizes)

        self.blocks = blocks(kernels[1:])
        self.skips = blocks(kernels[1:-1] if long_skips else ())
        last = [
            convolution1x1(channels, channels, bias, ordering.connections(features, features)),
            normalizer(normalization, channels),
            nn.ELU(inplace=True),
            convolution1x1(channels, out_channels, bias, ordering.connections(features, outputs)),
        ]
        self.head = nn.Sequential(*(module for module in last if not isinstance(module, nn.Identity)))
        if normalization == "weight":
            normalize_weights(self)

    def forward(self, x: Tensor, conditioning: Tensor) -> Tensor:
        """Return ``[N, out_channels, H, W]``.

        Args:
            x: Images ``[B, C, H, W]``.
            conditioning: What ``condition`` makes of the latents, ``[N, K, 1, 1]`` or ``[N, K, H, W]``.
        """
        latent, maps = (conditioning.flatten(1), None) if self.first.latent_size else (None, conditioning)
        h = self.first_norm(self.first(x.to(next(self.parameters()).dtype), maps, latent))
        # Channels last, for the 1x1 convolutions: on 8x8 images, 32 channels, batch 100, one core, 29 ms a step instead
        # of 36; on 28x28 no difference above the noise.
        h = functional.elu(h.contiguous(memory_format=torch.channels_last), inplace=True)
        blocks, skips = ([partial(b, latent=latent) for b in part] for part in (self.blocks, self.skips))
        outputs: Tensor = self.head(through_blocks(h, blocks, skips))
        return outputs

    def incremental(self, conditioning: Tensor) -> IncrementalPixels:
        """Return a state for drawing ``N`` images, for what ``condition`` makes of the latents, ``[N, K, ...]``."""
        return IncrementalPixelCNN(self, conditioning)
