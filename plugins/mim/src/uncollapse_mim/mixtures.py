"""Gaussian mixtures of the paper's synthetic experiments: their layouts, as data and as fixed densities."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, model_validator
from torch import Tensor, nn
from uncollapse.config import BuildContext, PriorConfig
from uncollapse.distributions import DiagonalNormal
from uncollapse.errors import ConfigError
from uncollapse_latents.priors import Mixture

__all__ = ["Component", "FixedMixture", "FixedMixtureConfig", "MixtureFields", "MixtureOfGaussians", "Spacing", "ring"]

Spacing = Literal["released", "even"]


@dataclass(frozen=True)
class MixtureOfGaussians:
    """Components of a mixture of diagonal Gaussians.

    Args:
        means: ``[K, D]``.
        stds: Standard deviations ``[K, D]``.
        weights: ``[K]``, summing to 1.
    """

    means: Tensor
    stds: Tensor
    weights: Tensor

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return ``count`` points ``[count, D]`` and the components that they come from, ``[count]``."""
        chosen = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        noise = torch.randn((count, self.means.shape[1]), generator=generator)
        return self.means[chosen] + noise * self.stds[chosen], chosen


def ring(
    count: int = 4,
    *,
    origin: bool = True,
    dimensions: int = 2,
    spacing: Spacing = "released",
    std: float | None = None,
) -> MixtureOfGaussians:
    """Return components of equal weight on the unit circle of the first two dimensions, and one at its centre.

    Four of them and the centre are the paper's five isotropic components of standard deviation 0.25: Livne et al., MIM
    (2019), section 5.1. Where they lie the text does not say; these are the released code's ``toy4`` and its kin.

    Args:
        count: Components on the circle.
        origin: Whether one more lies at the centre.
        dimensions: ``D``. From the third on, and in the first two of what is neither on the circle nor at its centre,
            means are those of the released code: ``K D`` numbers from ``-10 K`` to ``10 K``, laid out row by row. They
            are 40 standard deviations apart from one component to the next, or more.
        spacing: ``released``: at angles ``2 pi i / K`` with ``K`` counting the one at the centre, which leaves a gap;
            ``even``: at ``2 pi i / count``.
        std: Standard deviation; None for ``1.25 / K``, which is 0.25 for five components.

    Returns:
        ``K`` components, the centre first.
    """
    components = count + int(origin)
    means = torch.linspace(-10 * components, 10 * components, components * dimensions).view(components, dimensions)
    plane = min(2, dimensions)
    if origin:
        means[0, :plane] = 0
    turn = components if spacing == "released" else count
    angles = 2 * math.pi * torch.arange(count, dtype=torch.float64) / turn
    means[int(origin) :, :plane] = torch.stack([angles.cos(), angles.sin()], dim=1)[:, :plane].float()
    deviation = 1.25 / components if std is None else std
    return MixtureOfGaussians(means, torch.full_like(means, deviation), torch.full((components,), 1 / components))


class Component(BaseModel):
    """One Gaussian of a mixture."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    mean: tuple[float, ...] = Field(min_length=1, description="one number for each dimension")
    std: PositiveFloat = Field(0.25, description="standard deviation in every dimension")
    weight: PositiveFloat = Field(1.0, description="share, relative to the others'")


class MixtureFields(BaseModel):
    """Fields that describe a mixture: components one by one, or a ring of them."""

    ring: int = Field(4, ge=1, description="components on the unit circle")
    origin: bool = Field(True, description="one more component at the centre")
    spacing: Spacing = Field(
        "released", description="released: at angles 2 pi i / K, K counting the centre, which leaves a gap; or even"
    )
    std: PositiveFloat | None = Field(None, description="standard deviation; null for 1.25 / K: 0.25 for five of them")
    components: tuple[Component, ...] | None = Field(
        None, min_length=1, description="components with mean, std and weight, in the place of the ring"
    )

    @model_validator(mode="after")
    def _one_description(self) -> Self:
        if self.components is None:
            return self
        given = {"ring", "origin", "spacing", "std"} & self.model_fields_set
        described = [name for name in given if getattr(self, name) != type(self).model_fields[name].default]
        if described:
            raise ValueError(
                f"components: they say everything; leave out {', '.join(sorted(described))}, or leave out components"
            )
        sizes = {len(c.mean) for c in self.components}
        if len(sizes) > 1:
            raise ValueError(f"components: means must have the same length, found {', '.join(map(str, sorted(sizes)))}")
        return self

    def mixture(self, dimensions: int, place: str) -> MixtureOfGaussians:
        """Return the mixture in ``dimensions`` dimensions.

        Raises:
            ConfigError: The components' means have another length; the message begins with ``place``.
        """
        if self.components is None:
            return ring(
                self.ring, origin=self.origin, dimensions=dimensions, spacing=self.spacing, std=self.std
            )  # fmt: skip
        length = len(self.components[0].mean)
        if length != dimensions:
            raise ConfigError(
                f"{place}.components: means have {length} numbers, but the mixture lies in {dimensions} dimensions; "
                "give every mean as many numbers"
            )
        means = torch.tensor([c.mean for c in self.components])
        stds = torch.tensor([c.std for c in self.components])[:, None].expand_as(means)
        weights = torch.tensor([c.weight for c in self.components])
        return MixtureOfGaussians(means, stds, weights / weights.sum())


class FixedMixture(nn.Module):
    """A mixture of Gaussians without parameters, ``p(z) = sum_k w_k N(z; mean_k, std_k²)``: an anchor of known density.

    Livne, Swersky and Fleet, MIM (2019), section 2 and appendix E.2, https://arxiv.org/abs/1910.03175.

    Args:
        mixture: Its components, ``D`` numbers each.
        shape: Event shape, of ``D`` numbers.
    """

    means: Tensor
    logvars: Tensor
    log_weights: Tensor

    def __init__(self, mixture: MixtureOfGaussians, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("means", mixture.means.reshape(-1, *shape))
        self.register_buffer("logvars", 2 * mixture.stds.log().reshape(-1, *shape))
        self.register_buffer("log_weights", mixture.weights.log())

    def forward(self) -> Mixture:
        """Return the mixture, batch ``[]``, event ``shape``."""
        return Mixture(DiagonalNormal(self.means, self.logvars, event_dim=self.means.dim() - 1), self.log_weights)


class FixedMixtureConfig(MixtureFields, PriorConfig):
    """A fixed mixture of Gaussians, an anchor: Livne et al., MIM (2019), section 5.1 and appendix E.2,
    https://arxiv.org/abs/1910.03175. The fields are those of the data ``mim.mixture``.
    """

    type: Literal["mim.mixture"] = "mim.mixture"

    def build(self, context: BuildContext) -> FixedMixture:
        """Return the density.

        Raises:
            ConfigError: Given means have another number of dimensions than the latent.
        """
        return FixedMixture(self.mixture(context.latent_size, self.type), context.latent_shape)
