"""The PixelCNN++ network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ...weight_norm import weight_normalized
from .conditioning import LatentMaps
from .incremental import IncrementalPixelCNNPP
from .layers import Activation, GatedPair, ShiftedConv2d, shift_down, shift_right

__all__ = ["Level", "PixelCNNPP"]


class Level(nn.Module):
    """Blocks at one size, the levels of half the size between them, and as many blocks again.

    Every block of the second half gets the output of a block of the first half over a short cut, the last one first:
    Salimans et al., PixelCNN++ (2017), sections 2.3 and 2.4, https://arxiv.org/abs/1701.05517. Sizes change by
    convolutions of stride 2 that look up and left only.

    Args:
        filters: Channels of each stream.
        blocks: Gated blocks of the first half; the second half has one more where there is an inner level, for
            the short cut from the level's first features.
        maps: Channels of the latent's maps.
        activation: See :data:`Activation`.
        dropout: Inside the blocks.
        inner: The level of half the size, or None.
    """

    def __init__(
        self, filters: int, blocks: int, maps: int, activation: Activation, dropout: float, inner: Level | None
    ) -> None:
        super().__init__()
        self.up = nn.ModuleList(GatedPair(filters, maps, False, activation, dropout) for _ in range(blocks))
        self.inner = inner
        if inner is not None:
            self.shrink_above = weight_normalized(shift_down(filters, filters, stride=2))
            self.shrink_left = weight_normalized(shift_right(filters, filters, stride=2))
            # Without padding, an inner position would reach one column too far to the right of what it stands for.
            self.grow_above = weight_normalized(
                nn.ConvTranspose2d(filters, filters, (2, 3), 2, padding=(0, 1), output_padding=(0, 1))
            )
            self.grow_left = weight_normalized(nn.ConvTranspose2d(filters, filters, 2, 2))
        after = blocks if inner is None else blocks + 1
        self.down = nn.ModuleList(GatedPair(filters, maps, True, activation, dropout) for _ in range(after))

    def forward(self, above: Tensor, left: Tensor, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return both streams ``[N, filters, H, W]``.

        Args:
            above: ``[B or N, filters, H, W]``.
            left: ``[B or N, filters, H, W]``.
            maps: The latent's maps of this level and of those inside it.
        """
        passed = [(above, left)]
        for pair in self.up:
            above, left = pair(above, left, maps[0])
            passed.append((above, left))
        if self.inner is None:
            passed.pop()
        else:
            above, left = self.inner(self.shrink_above(above), self.shrink_left(left), maps[1:])
            above, left = self.grow_above(above), self.grow_left(left)
        for pair in self.down:
            above, left = pair(above, left, maps[0], passed.pop())
        return above, left


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
