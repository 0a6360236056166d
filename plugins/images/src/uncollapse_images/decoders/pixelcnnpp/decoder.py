"""PixelCNN++ decoder: the strongest autoregressive ``p(x|z)`` here, for colour images."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Size, Tensor, nn
from uncollapse.config import BuildContext, DecoderConfig, Installed, LikelihoodConfig
from uncollapse.encoders import require_image
from uncollapse.errors import ShapeError
from uncollapse.protocols import output_channels

from ...likelihoods.logistic_mixture import LogisticMixtureLikelihoodConfig
from ...weight_norm import initialize_from_data
from ..autoregressive import AutoregressivePixels
from .layers import Activation
from .network import PixelCNNPP

__all__ = ["PixelCNNPPDecoder", "PixelCNNPPDecoderConfig"]


class PixelCNNPPDecoder(nn.Module):
    """``p(x|z)`` as a PixelCNN++ conditioned on ``z``: Salimans et al., PixelCNN++ (2017),
    https://arxiv.org/abs/1701.05517, as the decoder of MAE's colour images (Ma et al., 2019, section 4.2 and appendix
    B.2, https://arxiv.org/abs/1901.01498).

    MAE's paper has 5 blocks of 96 filters, its released code 6. Both papers' likelihood is a mixture of discretized
    logistics, which couples the channels of a pixel. The paper's "7x4 receptive field" (in B.2 7x3) fits neither the
    released network nor any with several levels, where a pixel sees nearly everything before it; ``levels=1`` with few
    blocks has a field of that kind.

    Args:
        latent_shape: Shape ``D`` of one latent: a vector, or maps ``(C, h, w)`` of which doubling makes the image's
            size.
        event_shape: Shape ``X = (C, H, W)`` of an image.
        likelihood: Turns ``[..., O, H, W]`` into the conditionals of the pixels.
        levels: Sizes at which the network works, each half the one before.
        blocks: Gated blocks of a level, on the way to coarser levels and again on the way back.
        filters: Channels of each of the two streams.
        maps: Channels of the maps that are made of a latent, at every level.
        activation: ``concat_elu`` or ``elu``.
        dropout: Probability that a hidden value is left out in training.
        init_scale: Standard deviation of the layers' outputs after :meth:`initialize`.
        centred: Feed the network with ``2 x - 1``, for data in [0, 1].

    Raises:
        ShapeError: The data are not images, their sides cannot be halved so often, or a spatial latent does not fit.
    """

    def __init__(
        self,
        latent_shape: tuple[int, ...],
        event_shape: tuple[int, ...],
        likelihood: nn.Module,
        levels: int = 3,
        blocks: int = 5,
        filters: int = 96,
        maps: int = 16,
        activation: Activation = "concat_elu",
        dropout: float = 0.0,
        init_scale: float = 1.0,
        centred: bool = True,
    ) -> None:
        super().__init__()
        image = require_image(event_shape, "model.decoder")
        multiple = 2 ** (levels - 1)
        if any(side % multiple for side in image[1:]):
            fitting = next(n for n in reversed(range(1, levels)) if all(side % 2 ** (n - 1) == 0 for side in image[1:]))
            raise ShapeError(
                f"model.decoder.levels: a pixelcnnpp of {levels} levels halves the image {levels - 1} times, so its "
                f"sides must be multiples of {multiple}, found {image[1]}x{image[2]}; use levels: {fitting}, or images "
                "of another size"
            )
        self.latent_dims = len(latent_shape)
        self.event_shape = Size(event_shape)
        self.likelihood = likelihood
        self.init_scale = init_scale
        self.network = PixelCNNPP(
            latent_shape,
            image,
            output_channels(likelihood, image[0]),
            levels,
            blocks,
            filters,
            maps,
            activation,
            dropout,
            centred,
        )

    def forward(self, z: Tensor) -> AutoregressivePixels:
        """Return ``p(x|z)``, batch ``[...]``, event ``X``, for ``z [..., *D]``."""
        batch = z.shape[: z.dim() - self.latent_dims]
        return AutoregressivePixels(self.network, self.likelihood, z, batch, self.event_shape)

    @torch.no_grad()
    def initialize(self, z: Tensor, x: Tensor) -> None:
        """Set gains and biases from ``z [B, *D]`` and ``x [B, *X]``, without dropout.

        Salimans and Kingma, Weight Normalization (2016), eq. 6, https://arxiv.org/abs/1602.07868.
        """
        training = self.network.training
        self.network.eval()
        initialize_from_data(self.network, lambda: self(z).teacher_forced(x), self.init_scale)
        self.network.train(training)


class PixelCNNPPDecoderConfig(DecoderConfig):
    """A PixelCNN++ for colour images: Salimans et al. (2017), https://arxiv.org/abs/1701.05517, with the sizes and the
    conditioning of MAE (Ma et al., 2019), section 4.2 and appendix B.2. Always weight-normalized.
    """

    type: Literal["pixelcnnpp"] = "pixelcnnpp"
    levels: PositiveInt = Field(3, le=8, description="sizes at which the network works, each half the one before")
    blocks: PositiveInt = Field(5, description="gated blocks of a level, on the way down and again on the way back")
    filters: PositiveInt = Field(96, description="channels of each of the two streams")
    maps: PositiveInt = Field(16, description="channels of the maps that are made of the latent, at every level")
    activation: Activation = Field("concat_elu", description="nonlinearity of every block")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of hidden values left out; PixelCNN++ used 0.5")
    init_scale: PositiveFloat = Field(1.0, description="standard deviation of layers' outputs at the start")
    likelihood: Annotated[LikelihoodConfig, Installed("likelihood")] = Field(
        LogisticMixtureLikelihoodConfig(),
        description="what the outputs mean: p(x|z) of a value; must fit the data's support",
    )

    def build(self, context: BuildContext) -> PixelCNNPPDecoder:
        """Return the decoder.

        Raises:
            ShapeError: The data are not images, their sides cannot be halved so often, or a spatial latent does not
                fit.
        """
        return PixelCNNPPDecoder(
            context.latent_shape,
            context.data.event_shape,
            self.likelihood.build(context),
            self.levels,
            self.blocks,
            self.filters,
            self.maps,
            self.activation,
            self.dropout,
            self.init_scale,
            centred=context.data.support != "real",
        )
