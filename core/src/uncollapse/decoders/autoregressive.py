"""The distribution that an autoregressive image decoder returns."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Size, Tensor, nn
from torch.distributions import Distribution

from ..errors import ShapeError

__all__ = ["AutoregressiveNetwork", "AutoregressivePixels"]


class AutoregressiveNetwork(Protocol):
    """What :class:`AutoregressivePixels` needs: outputs that depend, at each position, on earlier positions only.

    ``network(x, conditioning)`` maps images ``[N, *X]`` and conditioning ``[N, *K]`` to the likelihood's input
    ``[N, O, H, W]``.
    """

    def __call__(self, x: Tensor, conditioning: Tensor) -> Tensor:
        """Return the outputs at every position."""
        ...

    def at(self, x: Tensor, conditioning: Tensor, row: int, column: int) -> Tensor:
        """Return the outputs at one position, ``[N, O, 1, 1]``."""
        ...


class AutoregressivePixels(Distribution):
    """``p(x|z) = prod_i p(x_i | x_<i, z)`` over the positions of an image in raster order: van den Oord et al.,
    Conditional Image Generation with PixelCNN Decoders (2016), eq. 3, https://arxiv.org/abs/1606.05328.

    The channels of one position are independent given earlier positions and ``z``, unless the likelihood couples them.
    Densities come from one pass over the data (teacher forcing); samples are ancestral, one position after the other,
    and carry no gradient. There is no closed form of the mean.

    Args:
        network: Gives the outputs that the likelihood turns into conditionals.
        likelihood: Turns outputs into conditionals; it must accept outputs of a single position as well.
        conditioning: What the network is to know of ``z``, ``[*batch, *K]``.
        batch_shape: Leading dimensions of ``z``.
        event_shape: Shape ``X = (C, H, W)`` of the data.
    """

    arg_constraints = {}  # noqa: RUF012 - torch's own signature

    def __init__(
        self,
        network: AutoregressiveNetwork,
        likelihood: nn.Module,
        conditioning: Tensor,
        batch_shape: Size,
        event_shape: Size,
    ) -> None:
        self._network = network
        self._likelihood = likelihood
        self._conditioning = conditioning
        super().__init__(batch_shape, event_shape, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> AutoregressivePixels:
        """Return the same distribution over a larger batch; memory is shared."""
        batch = Size(batch_shape)
        conditioning = self._conditioning.expand(batch + self._conditioning_shape)
        return AutoregressivePixels(self._network, self._likelihood, conditioning, batch, self.event_shape)

    def teacher_forced(self, value: Tensor) -> Distribution:
        """Return the conditionals ``p(x_i | x_<i, z)`` of every value of ``x``, given the ``x`` before it.

        Args:
            value: ``x`` ``[..., *X]``; its leading dimensions broadcast against the batch.

        Returns:
            A distribution of independent positions, batch the broadcast shape, event ``X``. Its ``mean`` predicts each
            pixel from the true pixels before it, which is not an image drawn from the model.

        Raises:
            ShapeError: ``value`` does not end in event shape ``X``.
        """
        cut = max(value.dim() - len(self.event_shape), 0)
        if value.shape[cut:] != self.event_shape:
            raise ShapeError(
                f"model.decoder: it was built for data of shape {tuple(self.event_shape)}, found {tuple(value.shape)}; "
                "the last dimensions must be those of one image"
            )
        batch = Size(torch.broadcast_shapes(value.shape[:cut], self.batch_shape))
        outputs = self._network(_flat(value, batch, self.event_shape), self._flat_conditioning(batch))
        conditionals: Distribution = self._likelihood(outputs.reshape(batch + outputs.shape[1:]))
        return conditionals

    def log_prob(self, value: Tensor) -> Tensor:
        """Return ``log p(x|z)`` in nats for ``x [..., *X]``, summed over ``X``, in float32 or better.

        Leading dimensions of ``x`` broadcast against the batch: ``[B, *X]`` against ``[S, B]`` gives ``[S, B]``.

        Raises:
            ShapeError: ``value`` does not end in event shape ``X``.
        """
        return self.teacher_forced(value).log_prob(value)

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw ``[*sample_shape, *batch, *X]``, with one pass for each of the ``H * W`` positions."""
        batch = Size(sample_shape) + self.batch_shape
        conditioning = self._flat_conditioning(batch)
        low = conditioning.dtype in (torch.bfloat16, torch.float16)
        dtype = torch.float32 if low else conditioning.dtype
        x = torch.zeros(conditioning.shape[:1] + self.event_shape, dtype=dtype, device=conditioning.device)
        _, height, width = self.event_shape
        for row in range(height):
            for column in range(width):
                outputs = self._network.at(x, conditioning, row, column)
                x[:, :, row, column] = self._likelihood(outputs).sample()[:, :, 0, 0]
        return x.reshape(batch + self.event_shape)

    @property
    def _conditioning_shape(self) -> Size:
        return self._conditioning.shape[len(self.batch_shape) :]

    def _flat_conditioning(self, batch: Size) -> Tensor:
        return _flat(self._conditioning, batch, self._conditioning_shape)


def _flat(t: Tensor, batch: Size, kept: Size) -> Tensor:
    # Convolutions take one batch dimension; S * B images go through the network in one pass.
    return t.expand(batch + kept).reshape(-1, *kept)
