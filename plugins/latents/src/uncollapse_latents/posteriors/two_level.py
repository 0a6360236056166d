"""The posterior over two levels of latents."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn
from uncollapse.config import BuildContext, PosteriorConfig
from uncollapse.distributions import DiagonalNormal
from uncollapse.protocols import Progress
from uncollapse_images.gates import GatedLinear, GatedSum, GaussianHead

from ..distributions.hierarchy import TwoLevelNormal

__all__ = ["TwoLevelPosterior", "TwoLevelPosteriorConfig"]


class TwoLevelPosterior(nn.Module):
    """``q(z|x) = q(z2|x) q(z1|x, z2)`` over one concatenated ``z = (z1, z2)``: Tomczak and Welling, VAE with a
    VampPrior (2018), section 4, https://arxiv.org/abs/1705.07120, with the layers of its released code.

    ``z1``, the first numbers of ``z``, is the bottom level, the one nearer to the data; ``z2``, the others, the top.
    Both are diagonal Gaussians with linear heads: the top level's on the encoder's features, the bottom level's on a
    gated layer that reads features and a gated layer of ``z2``. Features ``[B, 2, H]`` of an encoder with a tower for
    each level (``hvae_conv``) are the top level's and the bottom level's; of any others both levels read all.

    There is no mean in closed form, and the rate is Monte Carlo.

    Args:
        feature_shape: Shape of the encoder's features.
        bottom_dim: Dimension of ``z1``.
        top_dim: Dimension of ``z2``.
        hidden: Width of the layer that joins features and ``z2``.
        top_features: Width of the layer of ``z2``; None for as many as a level has features.
        logvar_range: Hard limits on both levels' log-variances, or None.
    """

    def __init__(
        self,
        feature_shape: tuple[int, ...],
        bottom_dim: int = 40,
        top_dim: int = 40,
        hidden: int = 300,
        top_features: int | None = None,
        logvar_range: tuple[float, float] | None = (-6.0, 2.0),
    ) -> None:
        super().__init__()
        self.latent_shape = (bottom_dim + top_dim,)
        self.bottom_dim = bottom_dim
        self.towers = len(feature_shape) == 2 and feature_shape[0] == 2
        features = feature_shape[1] if self.towers else math.prod(feature_shape)
        width = features if top_features is None else top_features
        self.top_head = GaussianHead(features, top_dim, logvar_range)
        self.of_top = GatedLinear(top_dim, width)
        self.joint = GatedSum(features, width, hidden)
        self.bottom_head = GaussianHead(hidden, bottom_dim, logvar_range)

    def forward(self, h: Tensor, progress: Progress | None = None) -> TwoLevelNormal:
        """Return ``q(z|x)``, batch ``[B]``, event ``(D1 + D2,)``, for features ``h [B, *H]``."""
        own = h[:, 1] if self.towers else h.flatten(1)
        return TwoLevelNormal(self.top(h, progress), partial(self._bottom, own), self.bottom_dim)

    def top(self, h: Tensor, progress: Progress | None = None) -> DiagonalNormal:
        """Return ``q(z2|x)``, batch ``[B]``, event ``(D2,)``; with towers features ``[B, 1, H]`` will do."""
        q: DiagonalNormal = self.top_head(h[:, 0] if self.towers else h.flatten(1))
        return q

    def _bottom(self, h: Tensor, z2: Tensor) -> DiagonalNormal:
        q: DiagonalNormal = self.bottom_head(self.joint(h, self.of_top(z2)))
        return q


class TwoLevelPosteriorConfig(PosteriorConfig):
    """Two levels of latents, ``q(z2|x) q(z1|x, z2)``: Tomczak and Welling (2018), section 4,
    https://arxiv.org/abs/1705.07120. ``z1`` comes first. Needs a Monte Carlo rate, which 'auto' takes.
    """

    type: Literal["two_level"] = "two_level"
    bottom_dim: PositiveInt = Field(40, description="dimension of z1, the first part of the latent")
    top_dim: PositiveInt = Field(40, description="dimension of z2, the second part")
    hidden: PositiveInt = Field(300, description="width of the layer that joins features and z2")
    top_features: PositiveInt | None = Field(
        None, description="width of the layer of z2; null: as many as a level has features"
    )
    logvar_range: tuple[float, float] | None = Field(
        (-6.0, 2.0), description="hard limits on the log-variances, as in the released code; null for none"
    )

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one latent, both levels together."""
        return (self.bottom_dim + self.top_dim,)

    @property
    def latent_levels(self) -> tuple[int, ...]:
        """Dimensions of the levels, the bottom one first."""
        return (self.bottom_dim, self.top_dim)

    def build(self, context: BuildContext) -> TwoLevelPosterior:
        """Return the posterior."""
        return TwoLevelPosterior(
            context.feature_shape, self.bottom_dim, self.top_dim, self.hidden, self.top_features, self.logvar_range
        )
