"""A gated PixelCNN that draws an image."""

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..incremental import Line, RowsAbove, folded, pointwise, row_of
from .layers import GatedLayer, StackConv2d, gate

__all__ = ["IncrementalGatedPixelCNN"]


class Network(Protocol):
    """What is read of a :class:`GatedPixelCNN`, which makes these states and therefore cannot be imported here."""

    width: int
    layers: nn.ModuleList
    hidden: nn.Conv2d
    hidden_norm: nn.Module
    outputs: nn.Conv2d


class _Stack:
    """The kernel of a :class:`StackConv2d` and what it adds to a row whatever the image: bias and condition."""

    def __init__(self, layer: StackConv2d, norm: nn.Module, condition: Tensor) -> None:
        weight, bias = folded(layer, norm)
        kernel, condition_weight = weight.split([layer.image_weights, layer.condition_channels], dim=1)
        self.kernel = kernel.unflatten(1, (layer.in_channels, *layer.kernel_size))
        self._bias = bias[None, :, None]
        self._weight = condition_weight[:, :, None] if layer.condition_channels else None
        self._condition = condition.to(weight.dtype)

    def given(self, row: int) -> Tensor:
        """Return ``[N or 1, 2p, W or 1]``."""
        if self._weight is None:
            return self._bias
        return functional.conv1d(row_of(self._condition, row), self._weight) + self._bias


class CachedGatedLayer:
    """One layer: the rows that its vertical convolution sees, and the row of its horizontal one."""

    def __init__(self, layer: GatedLayer, condition: Tensor, batch: int, width: int) -> None:
        self._vertical = _Stack(layer.vertical, layer.norms["vertical"], condition)
        self._horizontal = _Stack(layer.horizontal, layer.norms["horizontal"], condition)
        weight, bias = folded(layer.link, layer.norms["link"])
        self._link = weight, bias[:, None]
        self._out = pointwise(layer.out, layer.norms["out"])
        self._residual = not layer.first
        self.rows = RowsAbove(self._vertical.kernel, batch, width)
        self.line = Line(self._horizontal.kernel[:, :, 0], layer.horizontal.edges[0], batch, width)

    def start(self, row: int) -> Tensor:
        """Begin a row, whose vertical features are pushed already; return the next layer's, ``[N, W, p]``."""
        above = self.rows.output() + self._vertical.given(row)
        weight, bias = self._link
        self.line.start(torch.matmul(weight, above) + bias + self._horizontal.given(row))
        return gate(above).transpose(1, 2)

    def put(self, column: int, out: Tensor) -> None:
        """Write the horizontal features at a position of the row to ``out [N, p]``."""
        bias, matrix = self._out
        torch.addmm(bias, gate(self.line.output(column)), matrix, out=out)
        if self._residual:
            out.add_(self.line.slots[column])


class IncrementalGatedPixelCNN:
    """The state of a :class:`GatedPixelCNN` that draws ``N`` images: what both stacks see.

    Args:
        network: Whose weights count as they are now; batch normalization counts with its running statistics.
        conditioning: ``[N, K, 1, 1]`` or ``[N, K, H, W]``.
    """

    def __init__(self, network: Network, conditioning: Tensor) -> None:
        batch, width = len(conditioning), network.width
        self._layers = [
            CachedGatedLayer(cast(GatedLayer, layer), conditioning, batch, width) for layer in network.layers
        ]
        self._hidden = pointwise(network.hidden, network.hidden_norm)
        self._outputs = pointwise(network.outputs)
        # The image, then what each layer hands on; the last layer's features have no line of their own.
        self._pixels = self._layers[0].line
        features = self._hidden[1].new_empty(batch, network.hidden.in_channels)
        self._steps = [
            [
                (layer, following.line.slots[column] if following else features)
                for layer, following in zip(self._layers, (*self._layers[1:], None), strict=True)
            ]
            for column in range(width)
        ]
        self._features = features
        self._row = -1

    def outputs(self, row: int, column: int) -> Tensor:
        """Return the outputs at a position, ``[N, O, 1, 1]``."""
        if row != self._row:
            self._row = row
            self._start(row)
        for layer, out in self._steps[column]:
            layer.put(column, out)
        bias, matrix = self._hidden
        h = torch.addmm(bias, self._features.relu(), matrix).relu_()
        bias, matrix = self._outputs
        return torch.addmm(bias, h, matrix)[:, :, None, None]

    def put(self, row: int, column: int, pixel: Tensor) -> None:
        """Keep ``pixel [N, C]``."""
        self._pixels.slots[column].copy_(pixel)

    def _start(self, row: int) -> None:
        # The first layer's vertical convolution ends in the row above: the image's, as the line holds it still.
        v = self._pixels.row
        for layer in self._layers:
            layer.rows.push(v)
            v = layer.start(row)
