"""The first layers of decoders that read a hierarchy of latents."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from uncollapse.errors import ShapeError
from uncollapse_images.gates import GatedLinear

__all__ = ["GatedLevels"]


class GatedLevels(nn.Module):
    """A gated layer for each level of a latent, their outputs side by side: Tomczak and Welling, VAE with a VampPrior
    (2018), section 5, https://arxiv.org/abs/1705.07120, as released. A latent without levels has one.

    Args:
        latent_shape: Shape ``D`` of one latent; flattened.
        levels: Dimensions of the levels inside it, the bottom one first; None for a single one.
        features: Outputs of each layer.

    Raises:
        ShapeError: The levels do not fill the latent.
    """

    def __init__(self, latent_shape: tuple[int, ...], levels: Sequence[int] | None, features: int) -> None:
        super().__init__()
        size = math.prod(latent_shape)
        self.latent_dims = len(latent_shape)
        self.levels = [size] if levels is None else list(levels)
        if sum(self.levels) != size:
            raise ShapeError(
                f"model.decoder: levels of {' + '.join(map(str, self.levels))} dimensions do not make up a latent of "
                f"shape {tuple(latent_shape)}; give the dimension of every level, the bottom one first"
            )
        self.layers = nn.ModuleList(GatedLinear(level, features) for level in self.levels)
        self.out_features = len(self.levels) * features

    def forward(self, z: Tensor) -> Tensor:
        """Return ``[..., out_features]`` for ``z [..., *D]``."""
        parts = z.flatten(-self.latent_dims).split(self.levels, dim=-1)
        return torch.cat([layer(part) for layer, part in zip(self.layers, parts, strict=True)], dim=-1)
