"""Gated convolutions over an image in two stacks, conditioned on a latent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from ..autoregressive import IncrementalPixels
from ..channel_order import JOINT, ChannelOrdering
from ..condition import Conditioning, LatentCondition, MapsActivation
from ..masked_conv import convolution1x1
from ..normalization import Normalization, normalize_weights, normalizer
from .incremental import IncrementalGatedPixelCNN
from .layers import GatedLayer

__all__ = ["ConditionedStacks", "GatedPixelCNN"]

ConditionedStacks = Literal["both", "horizontal"]


class GatedPixelCNN(nn.Module):
    """A vertical and a horizontal stack of gated convolutions: van den Oord et al., Conditional Image Generation with
    PixelCNN Decoders (2016), section 2, https://arxiv.org/abs/1606.05328.

    Every gate is ``tanh(W_f * x + V_f s) * sigmoid(W_g * x + V_g s)`` (eq. 4). The horizontal stack has residual
    connections, and two 1x1 convolutions behind ReLUs make the outputs of its last features.

    Args:
        latent_size: Numbers in one latent.
        event_shape: Shape ``(C, H, W)`` of an image.
        out_channels: Numbers per position of the output.
        kernels: Odd kernel sizes, one a layer; the first at least 3.
        channels: Channels ``p`` of the layers.
        head: Channels between the two 1x1 convolutions.
        conditioning: ``bias``: ``s`` is the latent, the same everywhere. ``maps``: ``s`` are feature maps made from the
            latent (section 2.3).
        maps: Number of feature maps for ``maps``.
        maps_activation: After the linear function that makes the maps.
        condition: ``both`` stacks are conditioned on ``s`` as in the paper, or the ``horizontal`` one alone: the
            vertical one, the larger part of the work, is then the same for all latents of an image and computed once.
        normalization: ``weight`` or ``batch``: of every layer.
        ordering: In which order the channels of a pixel are drawn.
    """

    def __init__(
        self,
        latent_size: int,
        event_shape: tuple[int, int, int],
        out_channels: int,
        kernels: Sequence[int],
        channels: int,
        head: int,
        conditioning: Conditioning,
        maps: int,
        *,
        maps_activation: MapsActivation = "elu",
        condition: ConditionedStacks = "both",
        normalization: Normalization = "none",
        ordering: ChannelOrdering = JOINT,
    ) -> None:
        super().__init__()
        self.width = event_shape[2]
        self.channel_order = ordering.order
        self.condition = LatentCondition(latent_size, event_shape[1:], conditioning, maps, maps_activation)
        self.layers = nn.ModuleList(
            GatedLayer(
                event_shape[0] if i == 0 else channels,
                channels,
                kernel,
                self.condition.channels,
                condition_vertical=condition == "both",
                first=i == 0,
                last=i == len(kernels) - 1,
                normalization=normalization,
                ordering=ordering,
            )
            for i, kernel in enumerate(kernels)
        )
        bias = normalization != "batch"
        features, hidden = ordering.features(channels), ordering.features(head)
        self.hidden = convolution1x1(channels, head, bias, ordering.connections(features, hidden))
        self.hidden_norm = normalizer(normalization, head)
        outputs = ordering.connections(hidden, ordering.values(out_channels))
        self.outputs = convolution1x1(head, out_channels, True, outputs)
        if normalization == "weight":
            normalize_weights(self)

    def forward(self, x: Tensor, conditioning: Tensor) -> Tensor:
        """Return ``[N, out_channels, H, W]``.

        Args:
            x: Images ``[B, C, H, W]``.
            conditioning: What ``condition`` makes of the latents, ``[N, K, 1, 1]`` or ``[N, K, H, W]``; row
                ``s * B + b`` belongs to image ``b``.
        """
        v = h = x.to(next(self.parameters()).dtype)
        for layer in self.layers:
            v, h = layer(v, h, conditioning)
        outputs: Tensor = self.outputs(self.hidden_norm(self.hidden(h.relu())).relu())
        return outputs

    def incremental(self, conditioning: Tensor) -> IncrementalPixels:
        """Return a state for drawing ``N`` images, for what ``condition`` makes of the latents, ``[N, K, ...]``."""
        return IncrementalGatedPixelCNN(self, conditioning)
