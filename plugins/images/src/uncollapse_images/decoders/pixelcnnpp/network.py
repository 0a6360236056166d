"""The PixelCNN++ network."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ...weight_norm import weight_normalized
from .conditioning import LatentMaps
from .incremental import IncrementalPixelCNNPP
from .layers import Activation, ShiftedConv2d
from .level import Level

__all__ = ["PixelCNNPP"]


class PixelCNNPP(nn.Module):
    """Convolutions over an image that see earlier pixels only, at several sizes, conditioned on a latent.

    Salimans et al., PixelCNN++ (2017), sections 2.3 to 2.5, https://arxiv.org/abs/1701.05517, wired as its released
    code: two streams, one of what lies above and one of what lies above and to the left, gated residual blocks, and
    short cuts between the halves of every level. Conditioning follows MAE's released code; see :class:`GatedPair` and
    :class:`LatentMaps`. Every layer is weight-normalized. An additional channel of ones tells the image from the zeros
    around it; these are put around the image before its first convolutions, so that a border has a bias.

    Args:
        latent_shape: Shape ``D`` of one latent.
        event_shape: Shape ``(C, H, W)`` of an image; sides are multiples of ``2^(levels - 1)``.
        out_channels: Numbers per position of the output.
        levels: Sizes at which the network works, each half the one before.
        blocks: Gated blocks of a level, on the way to coarser levels and again on the way back.
        filters: Channels of each stream.
        maps: Channels of the latent's maps.
        activation: ``concat_elu`` or ``elu``.
        dropout: Inside the blocks.
        centred: Feed ``2 x - 1``, for data in [0, 1]; else ``x``.

    Raises:
        ShapeError: A spatial latent does not fit the image.
    """

    def __init__(
        self,
        latent_shape: tuple[int, ...],
        event_shape: tuple[int, int, int],
        out_channels: int,
        levels: int,
        blocks: int,
        filters: int,
        maps: int,
        activation: Activation,
        dropout: float,
        centred: bool,
    ) -> None:
        super().__init__()
        self.event_shape = event_shape
        self.centred = centred
        self.maps = LatentMaps(latent_shape, event_shape[1:], levels, maps)
        channels = event_shape[0] + 1
        self.top_above = weight_normalized(ShiftedConv2d(channels, filters, (2, 3), (1, 1, 2, -1)))
        self.top_row = weight_normalized(ShiftedConv2d(channels, filters, (1, 3), (1, 1, 1, -1)))
        self.top_left = weight_normalized(ShiftedConv2d(channels, filters, (2, 1), (1, -1, 1, 0)))
        level: Level | None = None
        for _ in range(levels):
            level = Level(filters, blocks, maps, activation, dropout, level)
        self.level = cast(Level, level)
        self.head = nn.Sequential(nn.ELU(), weight_normalized(nn.Conv2d(filters, out_channels, 1)))

    def prepared(self, x: Tensor) -> Tensor:
        """Return pixels as the network is fed with them, ``[N, C + 1, ...]`` for ``x [N, C, ...]``."""
        x = x.to(cast(Tensor, self.head[1].bias).dtype)
        return torch.cat([2 * x - 1 if self.centred else x, torch.ones_like(x[:, :1])], dim=1)

    def forward(self, x: Tensor, conditioning: Tensor) -> Tensor:
        """Return ``[N, out_channels, H, W]`` for images ``x [B, C, H, W]`` and latents ``[N, *D]``.

        Latent ``s * B + b`` belongs to image ``b``; what no latent has met yet is computed once for each image.
        """
        image = self.prepared(x)
        left = self.top_row(image) + self.top_left(image)
        _, left = self.level(self.top_above(image), left, self.maps(conditioning))
        outputs: Tensor = self.head(left)
        return outputs

    def incremental(self, conditioning: Tensor) -> IncrementalPixelCNNPP:
        """Return a fresh sampling state for latents ``[N, *D]``."""
        return IncrementalPixelCNNPP(self, conditioning)
