"""Masked convolutions whose outputs at a position depend on earlier positions, and the affine flow made of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributions import Transform, constraints
from torch.nn import functional
from uncollapse_images.decoders import MaskedConv2d
from uncollapse_images.weight_norm import weight_normalized

from .zuko_names import LazyTransform

__all__ = ["AutoregressiveConvAffine", "AutoregressiveConvTransform", "MaskedConvNet"]


class MaskedConvNet(nn.Module):
    """A network whose outputs at a position depend on all channels of the positions before it in raster order.

    Ma et al., MAE (2019), appendix B.2, https://arxiv.org/abs/1901.01498, as released: a masked convolution of type A,
    residual ones of type B, ``h <- relu(conv(h) + h)``, one of type B to the outputs, and one of type A from the
    inputs straight to the outputs, all weight-normalized. Masks: van den Oord et al., Pixel Recurrent Neural Networks
    (2016), section 3.4, https://arxiv.org/abs/1601.06759; they hide some earlier positions above and to the right.

    Args:
        channels: Channels of inputs and outputs.
        hidden: Channels of the hidden layers.
        hidden_layers: How many there are, 1 or more.
        kernel_size: Odd size of every kernel, 3 or more.
    """

    def __init__(self, channels: int, hidden: int, hidden_layers: int = 3, kernel_size: int = 3) -> None:
        super().__init__()
        self.first = MaskedConv2d(channels, hidden, kernel_size, include_centre=False)
        self.hidden = nn.ModuleList(
            MaskedConv2d(hidden, hidden, kernel_size, include_centre=True) for _ in range(hidden_layers - 1)
        )
        self.last = MaskedConv2d(hidden, channels, kernel_size, include_centre=True)
        self.skip = MaskedConv2d(channels, channels, kernel_size, include_centre=False)
        for layer in (self.first, *self.hidden, self.last, self.skip):
            weight_normalized(layer, log_gain=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[N, channels, H, W]`` for ``x [N, channels, H, W]``."""
        h = functional.relu(self.first(x))
        for layer in self.hidden:
            h = functional.relu(layer(h) + h)
        out: Tensor = self.last(h) + self.skip(x)
        return out


class _Layer:
    """A masked convolution position by position, and its inputs so far."""

    def __init__(self, layer: MaskedConv2d, batch: int) -> None:
        taps, size, reach = layer.live_taps, layer.kernel_size[0], layer.reach
        self.bias = cast(Tensor, layer.bias)
        self.matrix = layer.weight.unflatten(1, (layer.in_channels, taps)).permute(2, 1, 0).flatten(0, 1)
        self.offsets = [(tap // size - reach, tap % size - reach) for tap in range(taps)]
        self.inputs: dict[tuple[int, int], Tensor] = {}
        self.outside = self.matrix.new_zeros(batch, layer.in_channels)

    def put(self, row: int, column: int, value: Tensor) -> None:
        """Keep the input ``[N, C]`` at a position."""
        self.inputs[row, column] = value.to(self.matrix.dtype)

    def output(self, row: int, column: int) -> Tensor:
        """Return the output ``[N, O]`` at a position."""
        seen = [self.inputs.get((row + down, column + right), self.outside) for down, right in self.offsets]
        return torch.addmm(self.bias, torch.cat(seen, dim=1), self.matrix)


class _Incremental:
    """A :class:`MaskedConvNet` position by position, in raster order: a position costs its own work only."""

    def __init__(self, net: MaskedConvNet, batch: int) -> None:
        self.first, self.last, self.skip = (_Layer(layer, batch) for layer in (net.first, net.last, net.skip))
        self.hidden = [_Layer(cast(MaskedConv2d, layer), batch) for layer in net.hidden]

    def output(self, row: int, column: int) -> Tensor:
        """Return the network's output ``[N, C]`` at the next position."""
        h = functional.relu(self.first.output(row, column))
        for layer in self.hidden:
            layer.put(row, column, h)
            h = functional.relu(layer.output(row, column) + h)
        self.last.put(row, column, h)
        return self.last.output(row, column) + self.skip.output(row, column)

    def put(self, row: int, column: int, value: Tensor) -> None:
        """Keep the network's input at the position."""
        self.first.put(row, column, value)
        self.skip.put(row, column, value)


class AutoregressiveConvTransform(Transform):
    """``eps = mean(z) + z exp(logvar(z) / 2)`` over maps ``[..., C, H, W]``, position by position in raster order.

    MAE's prior for spatial latents as released (Ma et al., 2019, https://arxiv.org/abs/1901.01498). Calling it is one
    pass over the maps. Its inverse goes through the positions one by one and keeps what it has computed, so it costs
    about the arithmetic of a pass, in ``H * W`` steps; it is exact.

    Args:
        flow: Holds the networks.
    """

    domain = constraints.independent(constraints.real, 3)
    codomain = constraints.independent(constraints.real, 3)
    bijective = True

    def __init__(self, flow: AutoregressiveConvAffine) -> None:
        super().__init__()
        self.flow = flow

    def _call(self, z: Tensor) -> Tensor:
        return self.call_and_ladj(z)[0]

    def _inverse(self, eps: Tensor) -> Tensor:
        after = self.flow.ordered(eps.reshape(-1, *eps.shape[-3:]))
        mean, logvar = (_Incremental(net, len(after)) for net in (self.flow.mean, self.flow.logvar))
        z = []
        for row, column in _raster(after):
            shift = mean.output(row, column).to(eps.dtype)
            log_scale = 0.5 * logvar.output(row, column).to(eps.dtype)
            value = (after[:, :, row, column] - shift) * (-log_scale).exp()
            mean.put(row, column, value)
            logvar.put(row, column, value)
            z.append(value)
        return self.flow.ordered(torch.stack(z, dim=-1).view_as(after)).reshape(eps.shape)

    def log_abs_det_jacobian(self, z: Tensor, eps: Tensor) -> Tensor:
        """Return ``log |d eps / d z|``, ``[...]``, for ``z [..., C, H, W]``; ``eps`` is not needed."""
        return self.flow.moments(z)[1].sum((-3, -2, -1))

    def call_and_ladj(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``eps [..., C, H, W]`` and ``log |d eps / d z|``, ``[...]``, in one pass."""
        shift, log_scale = self.flow.moments(z)
        return shift + z * log_scale.exp(), log_scale.sum((-3, -2, -1))


class AutoregressiveConvAffine(LazyTransform):  # type: ignore[misc]  # zuko has no types
    """One flow with separate networks for mean and log-variance: ``eps = mean(z) + z exp(logvar(z) / 2)``.

    Ma et al., MAE (2019), appendix B.2, https://arxiv.org/abs/1901.01498, as released. The log-variance is not
    bounded.

    Args:
        channels: Channels ``C``.
        hidden: Channels of the networks' hidden layers.
        hidden_layers: How many hidden layers each has.
        kernel_size: Odd size of every kernel.
        reverse: Order the positions from the last to the first.
    """

    def __init__(
        self, channels: int, hidden: int, hidden_layers: int = 3, kernel_size: int = 3, reverse: bool = False
    ) -> None:
        super().__init__()
        self.mean = MaskedConvNet(channels, hidden, hidden_layers, kernel_size)
        self.logvar = MaskedConvNet(channels, hidden, hidden_layers, kernel_size)
        self.reverse = reverse

    def ordered(self, maps: Tensor) -> Tensor:
        """Return maps ``[..., H, W]`` whose raster order is the flow's, or such maps as they were."""
        return maps.flip((-2, -1)) if self.reverse else maps

    def moments(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return shift and log-scale ``[..., C, H, W]`` for ``z [..., C, H, W]``, in ``z``'s precision."""
        maps = self.ordered(z.reshape(-1, *z.shape[-3:]))
        shift, logvar = (self.ordered(net(maps)).to(z.dtype).reshape(z.shape) for net in (self.mean, self.logvar))
        return shift, 0.5 * logvar

    def forward(self, c: Tensor | None = None) -> AutoregressiveConvTransform:
        """Return the transform ``z -> eps``; it is unconditional and the context ``c`` is not used."""
        return AutoregressiveConvTransform(self)


def _raster(maps: Tensor) -> Iterator[tuple[int, int]]:
    height, width = maps.shape[-2:]
    return ((row, column) for row in range(height) for column in range(width))
