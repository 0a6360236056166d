"""Draws from another Gaussian than the prior."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor
from uncollapse.config import BuildContext, SamplerConfig
from uncollapse.model import LatentVariableModel
from uncollapse.passes import device_of, measuring
from uncollapse.samplers import decode

__all__ = ["ScaledGaussianSampler", "ScaledGaussianSamplerConfig"]


class ScaledGaussianSampler:
    """``z ~ N(0, scale^2 I)`` whatever the prior, then ``x ~ p(x|z)``.

    A scale below one trades variety for typical draws; where the aggregate posterior is narrower or wider than the
    prior, its own scale shows what the decoder has been trained on: Kingma and Dhariwal, Glow (2018), section 6
    (temperature), https://arxiv.org/abs/1807.03039.

    Args:
        scale: Standard deviation of every latent dimension.
        means: Return the mean of ``p(x|z)`` instead of a draw of it.
        max_batch: Latents that go through the decoder at once.

    Attributes:
        progress: Called with the share of the draws that is done.
    """

    progress: Callable[[float], object] | None = None

    def __init__(self, scale: float = 1.0, means: bool = False, max_batch: int = 256) -> None:
        self.scale = scale
        self.means = means
        self.max_batch = max_batch

    def __call__(self, model: LatentVariableModel, count: int) -> Tensor:
        """Return ``x`` ``[count, *X]``.

        Raises:
            ConfigError: Means were asked for and ``p(x|z)`` has none in closed form.
        """
        with measuring(model):
            z = self.scale * torch.randn(count, *model.latent_shape, device=device_of(model))
            return decode(model, z, self.means, self.max_batch, "scaled_gaussian", self.progress)


class ScaledGaussianSamplerConfig(SamplerConfig):
    """Latents from ``N(0, scale^2 I)``: Kingma and Dhariwal (2018), section 6, https://arxiv.org/abs/1807.03039."""

    type: Literal["scaled_gaussian"] = "scaled_gaussian"
    scale: PositiveFloat = Field(1.0, description="standard deviation of every latent dimension")
    means: bool = Field(False, description="the mean of p(x|z) instead of a draw")
    max_batch: PositiveInt = Field(256, description="latents that go through the decoder at once")

    def build(self, context: BuildContext) -> ScaledGaussianSampler:
        """Return the sampler."""
        return ScaledGaussianSampler(self.scale, self.means, self.max_batch)
