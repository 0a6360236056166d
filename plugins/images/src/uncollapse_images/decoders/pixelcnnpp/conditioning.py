"""Maps of a latent at every size that a PixelCNN++ works at."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional
from uncollapse.errors import ShapeError

from ...weight_norm import weight_normalized

__all__ = ["LatentMaps"]


class LatentMaps(nn.Module):
    """Maps ``[N, maps, H / 2^l, W / 2^l]`` of a latent, one for each level ``l``.

    A spatial latent ``(C, h, w)`` is doubled in size by transposed 3x3 convolutions, each halving the channels, with
    ELU, until it is as large as the image; a 1x1 convolution makes the maps. So MAE's released code comes to the
    finest level (Ma et al., 2019, https://arxiv.org/abs/1901.01498), of which it then makes those of the coarser levels
    by convolutions of stride 2; here these take the sizes that the way up has passed. Levels coarser than the latent
    are made by convolutions of stride 2, doubling the channels. Any other latent is flattened and first made maps of
    the coarsest level by a linear layer and ELU.

    Args:
        latent_shape: Shape ``D`` of one latent.
        size: Height and width of the images, multiples of ``2^(levels - 1)``.
        levels: Number of levels.
        maps: Channels of the maps.

    Raises:
        ShapeError: A spatial latent does not become as large as the image by doubling.
    """

    def __init__(self, latent_shape: tuple[int, ...], size: tuple[int, int], levels: int, maps: int) -> None:
        super().__init__()
        self.latent_shape = tuple(latent_shape)
        self.levels = levels
        if len(latent_shape) == 3:
            channels, start = latent_shape[0], _doublings(self.latent_shape, size)
            self.linear = None
            self.start_shape = self.latent_shape
        else:
            channels, start = maps, levels - 1
            self.start_shape = (maps, *(n >> start for n in size))
            self.linear = weight_normalized(nn.Linear(math.prod(latent_shape), math.prod(self.start_shape)))
        self.start = start
        widths = [max(int(channels * 2.0 ** (level - start)), 1) for level in range(max(start + 1, levels))]
        self.grow = nn.ModuleList(
            weight_normalized(nn.ConvTranspose2d(widths[level + 1], widths[level], 3, 2, 1, output_padding=1))
            for level in reversed(range(start))
        )
        self.shrink = nn.ModuleList(
            weight_normalized(nn.Conv2d(widths[level - 1], widths[level], 3, 2, 1))
            for level in range(start + 1, levels)
        )
        self.to_maps = nn.ModuleList(weight_normalized(nn.Conv2d(widths[level], maps, 1)) for level in range(levels))

    def forward(self, z: Tensor) -> list[Tensor]:
        """Return the maps of every level, from the finest, for latents ``z [N, *D]``."""
        if self.linear is not None:
            z = functional.elu(self.linear(z.flatten(1))).view(-1, *self.start_shape)
        sizes = {self.start: z}
        for level, grow in zip(reversed(range(self.start)), self.grow, strict=True):
            sizes[level] = functional.elu(grow(sizes[level + 1]))
        for level, shrink in enumerate(self.shrink, start=self.start + 1):
            sizes[level] = functional.elu(shrink(sizes[level - 1]))
        return [to_maps(sizes[level]) for level, to_maps in enumerate(self.to_maps)]


def _doublings(latent_shape: tuple[int, ...], size: tuple[int, int]) -> int:
    """Return how often a spatial latent is doubled to be as large as the image."""
    factors = {n / m for n, m in zip(size, latent_shape[1:], strict=True)}
    factor = factors.pop()
    if factors or factor < 1 or not math.log2(factor).is_integer():
        height, width = size
        halves = [f"{height >> k}x{width >> k}" for k in range(4) if height % 2**k == width % 2**k == 0]
        raise ShapeError(
            f"model.posterior.latent_dim: a pixelcnnpp doubles the sides of a spatial latent until it is as large as "
            f"the image, which from {latent_shape[1]}x{latent_shape[2]} never gives {height}x{width}; use a latent of "
            f"{', '.join(halves)}, or a flat one"
        )
    return int(math.log2(factor))
