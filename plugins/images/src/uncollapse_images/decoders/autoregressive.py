"""The distribution that an autoregressive image decoder returns, and what it asks of a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Size, Tensor, nn
from torch.distributions import Distribution, constraints
from uncollapse.errors import ShapeError
from uncollapse.protocols import output_channels

__all__ = ["AutoregressiveNetwork", "AutoregressivePixels", "IncrementalPixels"]


class IncrementalPixels(Protocol):
    """An image that is drawn position by position, in raster order, and what the network has computed of it so far.

    It is used without gradients, inside ``torch.no_grad()``.
    """

    def outputs(self, row: int, column: int) -> Tensor:
        """Return the outputs at a position, ``[N, O, 1, 1]``, given the pixels put so far."""
        ...

    def put(self, row: int, column: int, pixel: Tensor) -> None:
        """Keep ``pixel [N, C]``. A network with a channel order is told after each channel; others are zero still."""
        ...


class AutoregressiveNetwork(Protocol):
    """What :class:`AutoregressivePixels` needs: outputs that depend, at each position, on earlier positions only.

    A network may define ``channel_order``, the order of the indices of the channels: its outputs for one channel then
    depend on the channels of the same position that come before. Without it, or where it is None, the channels of a
    position are drawn together.
    """

    def __call__(self, x: Tensor, conditioning: Tensor) -> Tensor:
        """Return the outputs at every position, ``[N, O, H, W]``.

        Args:
            x: Images ``[B, C, H, W]``.
            conditioning: ``[N, *K]`` with ``N`` a multiple of ``B``; row ``s * B + b`` belongs to image ``b``. What
                depends on the image alone is to be computed for ``B`` rows.
        """
        ...

    def incremental(self, conditioning: Tensor) -> IncrementalPixels:
        """Return a fresh state for drawing ``N`` images, conditioned on ``[N, *K]``."""
        ...


class AutoregressivePixels(Distribution):
    """``p(x|z) = prod_i p(x_i | x_<i, z)`` over the positions of an image in raster order: van den Oord et al.,
    Conditional Image Generation with PixelCNN Decoders (2016), eq. 3, https://arxiv.org/abs/1606.05328.

    The channels of one position are independent given earlier positions and ``z``, unless the likelihood couples them
    or the network has a channel order. Densities come from one pass over the data (teacher forcing); samples are
    ancestral, one position after the other, and carry no gradient. There is no closed form of the mean.

    Args:
        network: Gives the outputs that the likelihood turns into conditionals.
        likelihood: Turns outputs into conditionals; it must accept outputs of a single position as well.
        conditioning: What the network is to know of ``z``, ``[*batch, *K]``.
        batch_shape: Leading dimensions of ``z``.
        event_shape: Shape ``X = (C, H, W)`` of the data.

    Attributes:
        progress: Called by ``sample`` after each row with the share of the rows that are drawn.
    """

    progress: Callable[[float], object] | None = None
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

    @property
    def support(self) -> constraints.Constraint:
        """Return where the likelihood's values lie, over the event's dimensions."""
        channels, *size = self.event_shape
        outputs = self._conditioning.new_zeros(output_channels(self._likelihood, channels), *size)
        support: constraints.Constraint = self._likelihood(outputs).support
        return support

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
        lead = value.shape[:cut]
        batch = Size(torch.broadcast_shapes(lead, self.batch_shape))
        # Leading dimensions along which the images are the same stay away from the network: it shares them.
        aligned = Size([1] * (len(batch) - len(lead))) + lead
        shared = next((i for i, size in enumerate(aligned) if size != 1), len(batch))
        images = _flat(value.reshape(aligned[shared:] + self.event_shape), batch[shared:], self.event_shape)
        outputs = self._network(images, self._flat_conditioning(batch))
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
        """Draw ``[*sample_shape, *batch, *X]``, position by position; a position costs its own new work only."""
        batch = Size(sample_shape) + self.batch_shape
        conditioning = self._flat_conditioning(batch)
        state = self._network.incremental(conditioning)
        order = getattr(self._network, "channel_order", None)
        low = conditioning.dtype in (torch.bfloat16, torch.float16)
        dtype = torch.float32 if low else conditioning.dtype
        channels, height, width = self.event_shape
        x = torch.zeros(height, width, len(conditioning), channels, dtype=dtype, device=conditioning.device)
        for row in range(height):
            for column in range(width):
                pixel = x[row, column]
                if order is None:
                    pixel.copy_(self._drawn(state, row, column))
                    state.put(row, column, pixel)
                    continue
                for channel in order:
                    pixel[:, channel] = self._drawn(state, row, column)[:, channel]
                    state.put(row, column, pixel)
            if self.progress is not None:
                self.progress((row + 1) / height)
        return x.permute(2, 3, 0, 1).reshape(batch + self.event_shape)

    def _drawn(self, state: IncrementalPixels, row: int, column: int) -> Tensor:
        drawn: Tensor = self._likelihood(state.outputs(row, column)).sample()
        return drawn[..., 0, 0]

    @property
    def _conditioning_shape(self) -> Size:
        return self._conditioning.shape[len(self.batch_shape) :]

    def _flat_conditioning(self, batch: Size) -> Tensor:
        return _flat(self._conditioning, batch, self._conditioning_shape)


def _flat(t: Tensor, batch: Size, kept: Size) -> Tensor:
    # Convolutions take one batch dimension; S * B images go through the network in one pass.
    return t.expand(batch + kept).reshape(-1, *kept)
