"""What every divergence between aggregate posterior and prior does the same way."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from pydantic import Field, PositiveFloat, model_validator
from torch import Tensor, nn
from torch.distributions import Distribution
from uncollapse.config import RegularizerConfig
from uncollapse.distributions import standard_normal
from uncollapse.errors import ConfigError, ShapeError
from uncollapse.inference import Inference
from uncollapse.protocols import Penalty

__all__ = ["Divergence", "DivergenceConfig", "Measured", "draw_prior"]


class Measured(NamedTuple):
    """A divergence and what is reported of it.

    Args:
        value: Scalar that the penalty is made of.
        terms: Named scalars without gradient.
    """

    value: Tensor
    terms: Mapping[str, Tensor]


class Divergence(nn.Module):
    """``lambda D(q(z) || p(z))`` beside an objective without rate, or the later family of two weights.

    Zhao, Song and Ermon, InfoVAE (2017), https://arxiv.org/abs/1706.02262v1, maximise (eq. 4, which the text prints
    without a number) ``E log p(x|z) - lambda D(q(z) || p(z))``: the objective ``reconstruction`` and this penalty. The
    later versions (AAAI 2019, https://arxiv.org/abs/1706.02262) maximise

        ``E log p(x|z) - (1 - alpha) KL(q(z|x) || p(z)) - (alpha + lambda - 1) D(q(z) || p(z))``,

    which is the first one at ``alpha = 1``. The penalty adds both terms, so the objective stays ``reconstruction``.

    Args:
        weight: ``lambda``, nats per example for one unit of the divergence, pixels summed.
        alpha: Of the later family; 1 leaves the rate out.

    Raises:
        ConfigError: ``alpha`` is above 1, or the divergence would get a negative weight.
    """

    name: ClassVar[str]
    pairs: ClassVar[bool] = True
    """Whether codes are compared with one another, which takes the global batch."""

    def __init__(self, weight: float, alpha: float = 1.0) -> None:
        super().__init__()
        _require_weights(self.name, weight, alpha)
        self.weight, self.alpha = weight, alpha

    def forward(self, inference: Inference | Tensor, p_z: Distribution | None = None) -> Penalty:
        """Return the penalty, nats per example.

        Args:
            inference: A pass through the model; or, in a loop of one's own, samples of the posteriors ``[B, *D]``.
            p_z: Prior of such samples, batch ``[]``, event ``D``; by default a standard Gaussian.

        Raises:
            ConfigError: ``alpha`` is not 1 and there are only samples, which do not tell the rate.
            ShapeError: The samples do not fit the prior.
        """
        z, p_z = self._codes(inference, p_z)
        value, terms = self.measure(z, p_z)
        total = (self.alpha + self.weight - 1) * value
        if self.alpha != 1:
            if not isinstance(inference, Inference):
                raise ConfigError(
                    f"{self.name}: alpha = {self.alpha:g} needs the rate, which samples alone do not tell; pass the "
                    "Inference, or add (1 - alpha) * KL(q(z|x) || p(z)) yourself and leave alpha at 1"
                )
            total = total + (1 - self.alpha) * inference.rate().mean()
        return Penalty(total, terms)

    @abstractmethod
    def measure(self, z: Tensor, p_z: Distribution) -> Measured:
        """Return the divergence of codes ``z [S, B, *D]`` from the prior."""

    def extra_repr(self) -> str:
        """Return the weights."""
        return f"weight={self.weight:g}, alpha={self.alpha:g}"

    def _codes(self, inference: Inference | Tensor, p_z: Distribution | None) -> tuple[Tensor, Distribution]:
        if isinstance(inference, Inference):
            return (inference.gathered().z if self.pairs else inference.z), inference.p_z
        p_z = standard_normal(tuple(inference.shape[1:]), inference.device) if p_z is None else p_z
        if inference.dim() < 2 or inference.shape[1:] != p_z.event_shape:
            raise ShapeError(
                f"{self.name}: expected samples [B, *D] with the prior's event shape {tuple(p_z.event_shape)}, found "
                f"{tuple(inference.shape)}"
            )
        return inference[None], p_z


def draw_prior(p_z: Distribution, count: int) -> Tensor:
    """Return ``count`` fresh draws ``[count, *D]``, with gradients where the prior can give them.

    A learned prior is moved towards the codes by its own draws.
    """
    shape = torch.Size((count,))
    return p_z.rsample(shape) if p_z.has_rsample else p_z.sample(shape)


def _require_weights(name: str, weight: float, alpha: float) -> None:
    if weight <= 0:
        raise ConfigError(f"{name}: weight, the paper's lambda, must be positive; found {weight:g}")
    if alpha > 1:
        raise ConfigError(f"{name}: alpha must be at most 1, found {alpha:g}: the rate would have a negative weight")
    if alpha + weight < 1:
        raise ConfigError(
            f"{name}: alpha + weight must be at least 1, found {alpha:g} + {weight:g}: the divergence would have a "
            "negative weight"
        )


class DivergenceConfig(RegularizerConfig):
    """Fields of every divergence: Zhao et al. (2017, 2019), https://arxiv.org/abs/1706.02262."""

    weight: PositiveFloat | None
    alpha: float = Field(
        1.0,
        le=1,
        description="of the later family: adds (1 - alpha) times the rate and weighs the divergence with "
        "alpha + weight - 1; 1: the first paper's objective",
    )

    @model_validator(mode="after")
    def _weights(self) -> DivergenceConfig:
        if self.weight is not None:
            _require_weights(self.type, self.weight, self.alpha)
        return self
