"""The inverse autoregressive flow posterior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import softplus
from uncollapse.config import BuildContext, Installed, MomentTransformConfig, PosteriorConfig
from uncollapse.distributions import DiagonalNormal
from uncollapse.protocols import Progress

from ..flows import GatedStep, InverseAutoregressiveFlow, InverseAutoregressiveTransform

__all__ = ["InverseAutoregressivePosterior", "InverseAutoregressivePosteriorConfig", "Scale"]

Scale = Literal["softplus", "exp"]

_WIDTH = 60
_LINEAR_BELOW = -30.0


def _log_softplus(t: Tensor) -> Tensor:
    # Far below zero softplus(t) is exp(t), which underflows where its logarithm does not.
    return torch.where(t < _LINEAR_BELOW, t, softplus(t.clamp(min=_LINEAR_BELOW)).log())


class InverseAutoregressivePosterior(nn.Module):
    """``q(z|x)`` by an inverse autoregressive flow over a diagonal Gaussian: Kingma et al. (2016), eq. 9-11 and 13-14,
    https://arxiv.org/abs/1606.04934, as in DU-IAF (Shen et al., Regularizing Variational Autoencoder with Diversity
    and Uncertainty Awareness, 2021, https://arxiv.org/abs/2110.12381, released code).

    One linear head puts out the base's mean, the argument of its standard deviation, and a context that every step of
    the flow reads. Its rate is Monte Carlo. Moment transforms and regularizers of moments see the Gaussian base; with
    a context the flow differs from example to example, so divergences between the bases are not those between the
    posteriors. With ``context=0`` all examples share the flow and they are.

    Args:
        feature_shape: Shape ``H`` of the encoder's features, flattened.
        latent_dim: Dimension ``D``. Of a single dimension the flow is a learned affine map without context.
        blocks: Steps of the flow; the order of the dimensions is reversed after each.
        hidden: Width of the hidden layers; None for 60 times the latent dimension.
        hidden_layers: Hidden layers of each masked network.
        context: Size of the context; None for twice the latent dimension, 0 for none.
        scale: The base's standard deviation as ``softplus`` or ``exp`` of its argument.
        moments: Transforms applied in order to the base's ``(mean, logvar)``.
    """

    def __init__(
        self,
        feature_shape: tuple[int, ...],
        latent_dim: int,
        blocks: int = 2,
        hidden: int | None = None,
        hidden_layers: int = 2,
        context: int | None = None,
        scale: Scale = "softplus",
        moments: Sequence[nn.Module] = (),
    ) -> None:
        super().__init__()
        self.latent_shape = (latent_dim,)
        self.scale = scale
        self.moments = nn.ModuleList(moments)
        size = 2 * latent_dim if context is None else context
        self.context_size = size if latent_dim > 1 else 0
        self.head = nn.Linear(math.prod(feature_shape), 2 * latent_dim + self.context_size)
        width = _WIDTH * latent_dim if hidden is None else hidden
        self.steps = nn.ModuleList(
            GatedStep(latent_dim, width, hidden_layers, self.context_size) for _ in range(blocks)
        )

    def forward(self, h: Tensor, progress: Progress | None = None) -> InverseAutoregressiveFlow:
        """Return ``q(z|x)``, batch ``[B]``, event ``(D,)``, for features ``h [B, *H]``."""
        (size,) = self.latent_shape
        outputs: Tensor = self.head(h.flatten(1))
        if outputs.dtype in (torch.bfloat16, torch.float16):
            outputs = outputs.float()
        mean, argument, context = outputs.split([size, size, self.context_size], dim=1)
        logvar = 2 * (_log_softplus(argument) if self.scale == "softplus" else argument)
        for transform in self.moments:
            mean, logvar = transform(mean, logvar, progress)
        flow = InverseAutoregressiveTransform(list(self.steps), context if self.context_size else None)
        return InverseAutoregressiveFlow(flow, DiagonalNormal(mean, logvar))


class InverseAutoregressivePosteriorConfig(PosteriorConfig):
    """An inverse autoregressive flow: Kingma et al. (2016), eq. 9-11 and 13-14, https://arxiv.org/abs/1606.04934, with
    the context as in DU-IAF (Shen et al., 2021). Needs a Monte Carlo rate, which 'auto' takes.
    """

    type: Literal["iaf"] = "iaf"
    latent_dim: PositiveInt = Field(description="latent dimension D", examples=[16])
    blocks: PositiveInt = Field(2, description="steps of the flow; the order is reversed after each")
    hidden: PositiveInt | None = Field(None, description="width of hidden layers; null: 60 times the latent dimension")
    hidden_layers: PositiveInt = Field(2, description="hidden layers of each masked network")
    context: NonNegativeInt | None = Field(
        None, description="size of the context; null: twice the latent dimension; 0: one flow for all examples"
    )
    scale: Scale = Field("softplus", description="how the base's standard deviation is made positive")
    moments: tuple[Annotated[MomentTransformConfig, Installed("moment_transform")], ...] = Field(
        (), description="transforms of the base's mean and log-variance"
    )

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape ``D`` of one latent."""
        return (self.latent_dim,)

    def build(self, context: BuildContext) -> InverseAutoregressivePosterior:
        """Return the posterior."""
        return InverseAutoregressivePosterior(
            context.feature_shape,
            self.latent_dim,
            self.blocks,
            self.hidden,
            self.hidden_layers,
            self.context,
            self.scale,
            [m.build(context) for m in self.moments],
        )
