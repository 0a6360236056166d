"""Latent traversals, as a sampler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from uncollapse.config import BuildContext, SamplerConfig
from uncollapse.errors import ConfigError
from uncollapse.model import LatentVariableModel
from uncollapse.passes import device_of, measuring
from uncollapse.samplers import decode

__all__ = ["TraversalSampler", "TraversalSamplerConfig"]

_TYPE = "muvae.traversal"


class TraversalSampler:
    """What the decoder makes of each latent dimension alone, the others at zero: *Bridging the ELBO and MMD* (2019),
    figures 7 and 9.

    The first dimension from ``-limit`` to ``limit`` in equal steps, then the second, and so on: all of them are
    ``steps`` times the latent dimension.

    Args:
        limit: 2 for VAE and β-VAE, 10 for μ-VAE #1, 20 for μ-VAE #2.
        steps: Values of each dimension; 40 in the paper.
        means: Return the mean of ``p(x|z)`` instead of a draw of it.
        max_batch: Latents that go through the decoder at once.

    Attributes:
        progress: Called with the share of the draws that is done.

    Raises:
        ConfigError: ``limit`` is not positive, or there are fewer than two steps.
    """

    progress: Callable[[float], object] | None = None

    def __init__(self, limit: float = 10.0, steps: int = 40, means: bool = False, max_batch: int = 256) -> None:
        if limit <= 0 or steps < 2:
            raise ConfigError(
                f"{_TYPE}: limit must be positive and steps at least 2; found limit={limit}, steps={steps}"
            )
        self.limit, self.steps, self.means, self.max_batch = limit, steps, means, max_batch

    def __call__(self, model: LatentVariableModel, count: int) -> torch.Tensor:
        """Return the first ``count`` of the sweeps, ``[count, *X]``.

        Raises:
            ConfigError: ``count`` is more than all sweeps have; or means were asked for and ``p(x|z)`` has none in
                closed form.
        """
        size = torch.Size(model.latent_shape).numel()
        if count > size * self.steps:
            raise ConfigError(
                f"{_TYPE}: {count} samples were asked for, but {size} latent dimensions of {self.steps} steps make "
                f"{size * self.steps}; ask for at most so many, or for more steps"
            )
        with measuring(model):
            device = device_of(model)
            rows = torch.arange(count, device=device)
            values = torch.linspace(-self.limit, self.limit, self.steps, device=device)
            z = torch.zeros(count, size, device=device)
            z[rows, rows // self.steps] = values[rows % self.steps]
            z = z.view(count, *model.latent_shape)
            return decode(model, z, self.means, self.max_batch, _TYPE, self.progress)


class TraversalSamplerConfig(SamplerConfig):
    """Each latent dimension swept alone: *Bridging the ELBO and MMD* (2019), figures 7 and 9."""

    type: Literal["muvae.traversal"] = "muvae.traversal"
    limit: PositiveFloat = Field(
        10.0, description="from minus this to this; the paper: 2 (VAE, β-VAE), 10 (μ-VAE #1), 20 (μ-VAE #2)"
    )
    steps: int = Field(40, ge=2, description="values of each dimension")
    means: bool = Field(False, description="the mean of p(x|z) instead of a draw")
    max_batch: PositiveInt = Field(256, description="latents that go through the decoder at once")

    def build(self, context: BuildContext) -> TraversalSampler:
        """Return the sampler."""
        return TraversalSampler(self.limit, self.steps, self.means, self.max_batch)
