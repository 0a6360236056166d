"""Skip-VAE: decoders whose every layer sees the latent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn
from torch.distributions import Distribution
from uncollapse.config import BuildContext
from uncollapse.decoders import ConvDecoder, ConvDecoderFields, MLPDecoderFields
from uncollapse.encoders import ACTIVATIONS, Activation
from uncollapse.protocols import output_channels

__all__ = ["SkipConvDecoder", "SkipConvDecoderConfig", "SkipMLPDecoder", "SkipMLPDecoderConfig"]


class SkipMLPDecoder(nn.Module):
    """Fully connected layers ``h_l = a(W_l h_{l-1} + V_l z)``: Dieng et al., Avoiding Latent Variable Collapse with
    Generative Skip Models (2019), https://arxiv.org/abs/1807.04863. The outputs see ``z`` as well.

    For images the paper's decoders are autoregressive: a PixelCNN with ``conditioning: bias`` is one with skip
    connections, and so is an LSTM that is given the latent at every step.

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
        self.latent_dims = len(latent_shape)
        self.output_shape = (output_channels(likelihood, event_shape[0]), *event_shape[1:])
        size = math.prod(latent_shape)
        widths = [*hidden, math.prod(self.output_shape)]
        # The first layer's input is the latent; a second matrix for it would be the same matrix twice.
        self.layers = nn.ModuleList(nn.Linear(n, m) for n, m in zip([size, *hidden], widths, strict=True))
        self.skips = nn.ModuleList(nn.Linear(size, m, bias=False) for m in widths[1:])
        self.activation = ACTIVATIONS[activation]()

    def forward(self, z: Tensor) -> Distribution:
        """Return ``p(x|z)``, batch ``[...]``, event ``X``, for ``z [..., *D]``."""
        z = z.flatten(z.dim() - self.latent_dims)
        h = self.layers[0](z)
        for layer, skip in zip(list(self.layers)[1:], self.skips, strict=True):
            h = layer(self.activation(h)) + skip(z)
        distribution: Distribution = self.likelihood(h.view(*z.shape[:-1], *self.output_shape))
        return distribution


class SkipMLPDecoderConfig(MLPDecoderFields):
    """Skip-VAE with fully connected layers: Dieng et al. (2019), https://arxiv.org/abs/1807.04863."""

    type: Literal["baselines.skip_mlp"] = "baselines.skip_mlp"

    def build(self, context: BuildContext) -> SkipMLPDecoder:
        """Return the decoder."""
        likelihood = self.likelihood.build(context)
        return SkipMLPDecoder(context.latent_shape, context.data.event_shape, likelihood, self.hidden, self.activation)


class SkipConvDecoder(ConvDecoder):
    """Transposed convolutions, each with the latent added to every position of its maps by a matrix of its own: Dieng
    et al. (2019), https://arxiv.org/abs/1807.04863.

    The arguments are those of :class:`~uncollapse.decoders.ConvDecoder`.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        size = math.prod(self.latent_shape)
        layers = [m for m in self.net if isinstance(m, nn.ConvTranspose2d)]
        self.skips = nn.ModuleList(nn.Linear(size, layer.out_channels, bias=False) for layer in layers)

    def forward(self, z: Tensor) -> Distribution:
        """Return ``p(x|z)``, batch ``[...]``, event ``X``, for ``z [..., *D]``."""
        lead = z.shape[: z.dim() - len(self.latent_shape)]
        z = z.reshape(-1, *self.latent_shape)
        flat, skips = z.flatten(1), iter(self.skips)
        h: Tensor = self.stem(z)
        for layer in self.net:
            h = layer(h)
            if isinstance(layer, nn.ConvTranspose2d):
                h = h + next(skips)(flat)[:, :, None, None]
        distribution: Distribution = self.likelihood(h.reshape(*lead, *h.shape[1:]))
        return distribution


class SkipConvDecoderConfig(ConvDecoderFields):
    """Skip-VAE with transposed convolutions: Dieng et al. (2019), https://arxiv.org/abs/1807.04863."""

    type: Literal["baselines.skip_conv"] = "baselines.skip_conv"

    def build(self, context: BuildContext) -> SkipConvDecoder:
        """Return the decoder.

        Raises:
            ShapeError: The data are not images, or too small for the layers.
        """
        return SkipConvDecoder(**self.arguments(context))
