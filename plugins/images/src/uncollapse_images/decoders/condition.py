"""What an autoregressive network is told of the latent: a vector for all positions, or maps."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Conditioning", "LatentCondition", "MapsActivation", "added"]

Conditioning = Literal["bias", "maps"]
MapsActivation = Literal["elu", "none"]


def added(images: Tensor, conditions: Tensor) -> Tensor:
    """Return ``[N, ...]``: row ``s * B + b`` of ``conditions [N, ...]`` and row ``b`` of ``images [B, ...]`` added.

    What depends on the images alone is thus computed once for each of them, however many latents there are.
    """
    if len(images) == len(conditions):
        return images + conditions
    both: Tensor = images + conditions.unflatten(0, (-1, len(images)))
    return both.flatten(0, 1)


class LatentCondition(nn.Module):
    """``z [..., latent_size]`` to ``[..., K, 1, 1]`` or ``[..., K, H, W]``.

    ``bias``: the latent as it is, the same everywhere. ``maps``: feature maps of the image's size, a linear function of
    the latent followed by an ELU or by nothing. Van den Oord et al., Conditional Image Generation with PixelCNN
    Decoders (2016), section 2.3, https://arxiv.org/abs/1606.05328, call them ``h`` and ``s = m(h)``.

    Args:
        latent_size: Numbers in one latent.
        size: Height and width of the image.
        conditioning: ``bias`` or ``maps``.
        maps: Number of maps.
        activation: After the linear function.
    """

    def __init__(
        self,
        latent_size: int,
        size: tuple[int, int],
        conditioning: Conditioning,
        maps: int,
        activation: MapsActivation = "elu",
    ) -> None:
        super().__init__()
        self.shape = (latent_size, 1, 1) if conditioning == "bias" else (maps, *size)
        self.channels = self.shape[0]
        self.linear = nn.Linear(latent_size, math.prod(self.shape)) if conditioning == "maps" else None
        self.activation = activation

    def forward(self, z: Tensor) -> Tensor:
        """Return the condition ``[..., K, h, w]``."""
        if self.linear is None:
            return z[..., None, None]
        maps = self.linear(z).unflatten(-1, self.shape)
        return functional.elu(maps) if self.activation == "elu" else maps
