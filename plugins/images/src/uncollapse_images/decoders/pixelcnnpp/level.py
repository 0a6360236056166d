"""One size of a PixelCNN++, and the coarser ones inside it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ...weight_norm import weight_normalized
from .layers import Activation, GatedPair, shift_down, shift_right

__all__ = ["Level"]


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
