"""Cached features of a convolutional network that draws an image pixel by pixel.

At the start of a row, one convolution for each layer computes what the rows above give to the whole row; a pixel then
costs one small matrix product over the live taps of its own row. Weight and batch normalization are folded into the
weights once. Caches lie with the channels last, so that the window of a pixel is one run of numbers.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .masked_conv import MaskedConv2d

__all__ = ["CachedMaskedConv", "Line", "RowsAbove", "compute_dtype", "folded", "pointwise", "row_of"]


def compute_dtype(parameter: Tensor) -> torch.dtype:
    """Return the type in which a layer with this parameter computes: autocast's, where it is on."""
    device = parameter.device.type
    if parameter.dtype == torch.float32 and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return parameter.dtype


def folded(layer: nn.Conv2d, norm: nn.Module | None = None) -> tuple[Tensor, Tensor]:
    """Return the weight ``[out, fan_in]`` and bias ``[out]`` of a layer and of what normalizes it, in one.

    Batch normalization counts with its running statistics, in training mode as well: the statistics of a batch are
    known only when all its pixels are.
    """
    weight = layer.weight.flatten(1)
    live = getattr(layer, "live", None)
    if live is not None:
        weight = weight * live
    bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias
    if isinstance(norm, nn.BatchNorm2d):
        mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
        scale = norm.weight / (variance + norm.eps).sqrt()
        weight, bias = weight * scale[:, None], (bias - mean) * scale + norm.bias
    dtype = compute_dtype(weight)
    return weight.to(dtype), bias.to(dtype)


def pointwise(layer: nn.Conv2d, norm: nn.Module | None = None) -> tuple[Tensor, Tensor]:
    """Return bias and matrix ``[in, out]`` of a 1x1 convolution, in the order in which ``addmm`` takes them."""
    weight, bias = folded(layer, norm)
    return bias, weight.t().contiguous()


class RowsAbove:
    """The rows of a convolution's input that lie above, and what they give to a whole row.

    Args:
        kernel: ``[O, C, R, k]``; its ``R`` rows belong to the last ``R`` rows pushed.
        batch: Images ``N``.
        width: Width ``W`` of the image.
    """

    def __init__(self, kernel: Tensor, batch: int, width: int) -> None:
        _, channels, self._count, k = kernel.shape
        # The oldest row may lie anywhere in the ring: a kernel whose rows are turned to match costs no copy of rows.
        self._kernels = [
            kernel.roll(shift, dims=2).contiguous(memory_format=torch.channels_last) for shift in range(self._count)
        ]
        self._pushed = 0
        # Zeros left and right of the image, and rows of zeros above it.
        self._ring = kernel.new_zeros(batch, self._count, width + 2 * (k // 2), channels)
        self._inside = slice(k // 2, k // 2 + width)

    def push(self, row: Tensor) -> None:
        """Keep the next row, ``[N, W, C]``."""
        self._ring[:, self._pushed % self._count, self._inside] = row
        self._pushed += 1

    def output(self) -> Tensor:
        """Return ``[N, O, W]``."""
        kernel = self._kernels[self._pushed % self._count]
        return functional.conv2d(self._ring.permute(0, 3, 1, 2), kernel)[:, :, 0]


class Line:
    """The row of a convolution's input that is being drawn, and the convolution's output at a position.

    Args:
        taps: ``[O, C, T]``: the taps of the centre's row, from the left.
        reach: How far left of the centre the first of them lies.
        batch: Images ``N``.
        width: Width ``W`` of the image.
    """

    def __init__(self, taps: Tensor, reach: int, batch: int, width: int) -> None:
        outputs, channels, count = taps.shape
        self._matrix = taps.permute(2, 1, 0).reshape(count * channels, outputs)
        padded = taps.new_zeros(batch, reach + width, channels)
        # Views of the caches are made once; making one costs as much as a small matrix product.
        self._windows = [padded[:, c : c + count].flatten(1) for c in range(width)]
        self.row = padded[:, reach:]
        self.slots = self.row.unbind(1)
        self._given = taps.new_zeros(width, batch, outputs)
        self._given_at = self._given.unbind(0)

    def start(self, given: Tensor) -> None:
        """Begin a row; ``given``, which broadcasts to ``[N, O, W]``, is added to the outputs of its positions."""
        self._given.copy_(given.permute(2, 0, 1))

    def output(self, column: int) -> Tensor:
        """Return ``[N, O]`` from the values ``[N, C]`` that ``slots`` hold up to this column."""
        return torch.addmm(self._given_at[column], self._windows[column], self._matrix)


class CachedMaskedConv:
    """A :class:`MaskedConv2d` and what normalizes it, while an image is drawn.

    Args:
        layer: The convolution.
        norm: What normalizes its output, if anything.
        condition: What the layer is given beside the image, ``[N, K, 1, 1]`` of a latent or ``[N, K, H, W]`` of maps.
        batch: Images ``N``.
        width: Width ``W`` of the image.
    """

    def __init__(
        self, layer: MaskedConv2d, norm: nn.Module | None, condition: Tensor | None, batch: int, width: int
    ) -> None:
        k, reach = layer.kernel_size[0], layer.reach
        weight, bias = folded(layer, norm)
        taps, visible, latent = weight.split(
            [layer.masked_weights, layer.image_weights - layer.masked_weights, layer.latent_size], dim=1
        )
        taps = taps.unflatten(1, (layer.in_channels, layer.live_taps))
        self._given = bias[None, :, None, None]
        if condition is not None and layer.visible_channels:
            kernel = visible.unflatten(1, (layer.visible_channels, k, k))
            self._given = self._given + functional.conv2d(condition.to(weight.dtype), kernel, padding=reach)
        elif condition is not None and layer.latent_size:
            self._given = self._given + functional.conv2d(condition.to(weight.dtype), latent[:, :, None, None])
        self._above = RowsAbove(taps[:, :, : reach * k].unflatten(2, (reach, k)), batch, width) if reach else None
        self._line = Line(taps[:, :, reach * k :], reach, batch, width)
        self.slots = self._line.slots
        self.output = self._line.output

    def start(self, row: int) -> None:
        """Begin a row of the image."""
        given = row_of(self._given, row)
        if self._above is not None:
            # Before the first row the line holds zeros, like the rows above the image.
            self._above.push(self._line.row)
            given = given + self._above.output()
        self._line.start(given)


def row_of(images: Tensor, row: int) -> Tensor:
    """Return ``[N, C, W]`` of ``images [N, C, H, W]``, or ``[N, C, 1]`` of what is the same everywhere."""
    return images[:, :, row if images.shape[2] > 1 else 0]
