"""Fully connected decoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.distributions import Distribution

from ..component import BuildContext
from ..config.installed import Installed
from ..encoders.mlp import Activation, mlp
from ..kinds import DecoderConfig, LikelihoodConfig
from ..likelihoods import BernoulliLikelihoodConfig
from ..protocols import output_channels

__all__ = ["MLPDecoder", "MLPDecoderConfig", "MLPDecoderFields"]


class MLPDecoder(nn.Module):
    """Fully connected layers from the latent to every value: Kingma and Welling (2014), appendix C,
    https://arxiv.org/abs/1312.6114.

    Args:
        latent_shape: Shape ``D`` of one latent.
        event_shape: Shape ``X = (C, *rest)`` of the data.
        likelihood: Turns ``[..., O, *rest]`` into ``p(x|z)``.
        hidden: Widths of the hidden layers.
        activation: After every hidden layer.
    """

    def __init__(
        self,
        latent_shape: tuple[int, ...],
        event_shape: tuple[int, ...],
        likelihood: nn.Module,
        hidden: Sequence[int],
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.latent_dims, self.latent_size = len(latent_shape), math.prod(latent_shape)
        self.output_shape = (output_channels(likelihood, event_shape[0]), *event_shape[1:])
        self.net = mlp([self.latent_size, *hidden, math.prod(self.output_shape)], activation, last=False)

    def forward(self, z: Tensor) -> Distribution:
        """Return ``p(x|z)``, batch ``[...]``, event ``X``, for ``z [..., *D]``."""
        lead = z.shape[: z.dim() - self.latent_dims]
        # Linear layers are quicker on two dimensions than on [S, B, D].
        outputs: Tensor = self.net(z.reshape(-1, self.latent_size))
        distribution: Distribution = self.likelihood(outputs.view(*lead, *self.output_shape))
        return distribution


class MLPDecoderFields(DecoderConfig):
    """Fields of decoders of fully connected layers."""

    hidden: tuple[PositiveInt, ...] = Field((256, 256), description="widths of the hidden layers")
    activation: Activation = Field("relu", description="nonlinearity after every hidden layer")
    likelihood: Annotated[LikelihoodConfig, Installed("likelihood")] = Field(
        BernoulliLikelihoodConfig(), description="what the outputs mean: p(x|z) of a value; must fit the data's support"
    )


class MLPDecoderConfig(MLPDecoderFields):
    """Fully connected layers: Kingma and Welling (2014), appendix C, https://arxiv.org/abs/1312.6114."""

    type: Literal["mlp"] = "mlp"

    def build(self, context: BuildContext) -> MLPDecoder:
        """Return the decoder."""
        likelihood = self.likelihood.build(context)
        return MLPDecoder(context.latent_shape, context.data.event_shape, likelihood, self.hidden, self.activation)
