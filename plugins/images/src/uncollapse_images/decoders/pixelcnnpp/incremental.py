"""A PixelCNN++ one pixel at a time: everything that earlier pixels have settled is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .conditioning import LatentMaps
from .layers import GatedBlock, GatedPair, ShiftedConv2d
from .level import Level

__all__ = ["IncrementalPixelCNNPP"]


class Network(Protocol):
    """What is read of a :class:`PixelCNNPP`, which makes these states and therefore cannot be imported here."""

    event_shape: tuple[int, int, int]
    level: Level
    maps: LatentMaps
    top_above: ShiftedConv2d
    top_row: ShiftedConv2d
    top_left: ShiftedConv2d
    head: nn.Sequential

    @property
    def prepared(self) -> Callable[[Tensor], Tensor]:
        """From images to what the first convolutions read."""
        ...


def _weights(layer: nn.Module) -> tuple[Tensor, Tensor]:
    # Computed at each reading, being normalized.
    return cast(Tensor, layer.weight), cast(Tensor, layer.bias)


class _DownConv:
    """A :func:`shift_down` convolution, row by row: it keeps the row above."""

    def __init__(self, conv: ShiftedConv2d) -> None:
        self.weights, self.stride = _weights(conv), (1, conv.stride[1])
        self.above: Tensor | None = None

    def keep(self, row: Tensor) -> None:
        self.above = row

    def __call__(self, row: Tensor) -> Tensor:
        """Return the row's outputs ``[N, O, 1, W']`` for its inputs ``[N, I, 1, W]``."""
        above = torch.zeros_like(row) if self.above is None else self.above
        self.above = row
        return functional.conv2d(torch.cat([above, row], dim=2), *self.weights, self.stride, padding=(0, 1))


class _RightConv:
    """A :func:`shift_right` convolution, pixel by pixel: what the row above gives is computed for a row at once."""

    def __init__(self, conv: ShiftedConv2d) -> None:
        weight, self.bias = _weights(conv)
        self.from_above, self.stride = weight[:, :, :1], conv.stride[1]
        self.from_row = weight[:, :, 1].permute(2, 1, 0).flatten(0, 1)
        self.row: list[Tensor] = []
        self.ready = self.bias

    def start_row(self, known: Tensor) -> None:
        """Begin a row; ``known [N, O, 1, W']`` is added to its outputs."""
        if self.row:
            above = functional.pad(torch.stack(self.row, dim=-1).unsqueeze(2), (1, 0))
            settled = known + functional.conv2d(above, self.from_above, self.bias, (1, self.stride))
        else:
            settled = known + self.bias[:, None, None]
        # Pixels first, so that each finds its numbers side by side.
        self.ready = settled.squeeze(2).movedim(-1, 0).contiguous()
        self.row = []

    def skip_row(self) -> None:
        """Begin a row of which only the inputs count, for the outputs of the next."""
        self.row = []

    def keep(self, x: Tensor) -> None:
        self.row.append(x)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the next pixel's outputs ``[N, O]`` for its inputs ``[N, I]``."""
        column = len(self.row)
        left = self.row[-1] if self.row else torch.zeros_like(x)
        self.row.append(x)
        return torch.addmm(self.ready[column // self.stride], torch.cat([left, x], dim=1), self.from_row)


class _Down:
    """A block of the stream of rows above."""

    def __init__(self, block: GatedBlock) -> None:
        self.activation = block.activation
        self.shortcut = None if block.shortcut is None else _weights(block.shortcut)
        self.first, self.second = _DownConv(block.first), _DownConv(block.second)

    def row(self, x: Tensor, conditioning: Tensor, shortcut: Tensor | None) -> Tensor:
        """Return the row's outputs ``[N, F, 1, W]``."""
        hidden = self.first(self.activation(x))
        if self.shortcut is not None:
            hidden = hidden + functional.conv2d(self.activation(shortcut), *self.shortcut)
        return x + functional.glu(self.second(self.activation(hidden)) + conditioning, dim=1)


class _Right:
    """A block of the stream that also knows what lies to the left."""

    def __init__(self, block: GatedBlock) -> None:
        self.activation = block.activation
        self.first, self.second = _RightConv(block.first), _RightConv(block.second)
        weight, self.bias = _weights(cast(nn.Module, block.shortcut))
        filters = len(weight)
        # What comes over the short cut is the other stream, known for the whole row, then this one's own; doubled by
        # the activation, if at all, both together.
        parts = weight.view(filters, -1, block.shortcuts, filters).transpose(1, 2).flatten(2)
        self.known = parts[:, 0, :, None, None]
        self.own = parts[:, 1].t() if block.shortcuts == 2 else None

    def start_row(self, conditioning: Tensor, above: Tensor) -> None:
        """Begin a row; ``above [N, F, 1, W]`` is the other stream."""
        self.first.start_row(functional.conv2d(self.activation(above), self.known, self.bias))
        self.second.start_row(conditioning)

    def pixel(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """Return the next pixel's outputs ``[N, F]``."""
        hidden = self.first(self.activation(x))
        if self.own is not None:
            hidden = torch.addmm(hidden, self.activation(shortcut), self.own)
        return x + functional.glu(self.second(self.activation(hidden)), dim=1)


class _Pair:
    """Both blocks, and the conditioning of the whole image."""

    def __init__(self, pair: GatedPair, maps: Tensor) -> None:
        self.above, self.left = _Down(pair.above), _Right(pair.left)
        self.conditioning = pair.conditioning(maps)

    def row(self, row: int, above: Tensor, shortcut: Tensor | None = None) -> Tensor:
        conditioning = self.conditioning[:, :, row : row + 1]
        above = self.above.row(above, conditioning, shortcut)
        self.left.start_row(conditioning, above)
        return above


class _Level:
    """A level and those inside it. Inner positions come with the first, upper left of the four they stand for."""

    def __init__(self, level: Level, maps: Sequence[Tensor]) -> None:
        self.up, self.down = ([_Pair(cast(GatedPair, p), maps[0]) for p in half] for half in (level.up, level.down))
        self.inner = None if level.inner is None else _Level(level.inner, maps[1:])
        self.is_odd = True
        if level.inner is not None:
            self.shrink_above, self.shrink_left = _DownConv(level.shrink_above), _RightConv(level.shrink_left)
            self.grow_above = _weights(level.grow_above)
            weight, self.bias = _weights(level.grow_left)
            # An inner position becomes four: [4, filters in, filters out].
            self.grow_left = weight.permute(2, 3, 0, 1).flatten(0, 1)
            self.grown_rows: Tensor | None = None
            self.grown: list[Tensor] = []

    def row(self, row: int, above: Tensor) -> Tensor:
        """Begin a row whose stream from above is ``[N, F, 1, W]``, and return what this stream puts out."""
        self.is_odd = row % 2 == 1
        passed = [above]
        for pair in self.up:
            above = pair.row(row, above)
            passed.append(above)
        if self.inner is None:
            passed.pop()
        elif self.is_odd:
            self.shrink_above.keep(above)
            self.shrink_left.skip_row()
            above = cast(Tensor, self.grown_rows)[:, :, 1:]
        else:
            shrunk = self.shrink_above(above)
            self.shrink_left.start_row(torch.zeros_like(shrunk))
            inner = self.inner.row(row // 2, shrunk)
            self.grown_rows = functional.conv_transpose2d(inner, *self.grow_above, 2, (0, 1), (0, 1))
            self.grown = []
            above = self.grown_rows[:, :, :1]
        for pair in self.down:
            above = pair.row(row, above, passed.pop())
        return above

    def pixel(self, column: int, left: Tensor) -> Tensor:
        """Return the outputs ``[N, F]`` at the next pixel of the row."""
        passed = [left]
        for pair in self.up:
            left = pair.left.pixel(left)
            passed.append(left)
        if self.inner is None:
            passed.pop()
        else:
            if self.is_odd or column % 2:
                self.shrink_left.keep(left)
            else:
                inner = self.inner.pixel(column // 2, self.shrink_left(left))
                self.grown.append(inner @ self.grow_left + self.bias)
            left = self.grown[column // 2][2 * self.is_odd + column % 2]
        for pair in self.down:
            left = pair.left.pixel(left, passed.pop())
        return left


class IncrementalPixelCNNPP:
    """An image being drawn from a :class:`PixelCNNPP`, in all about as much work as one pass over it.

    The stream of rows above is computed a row at a time, and so is what the other stream takes from it and from its own
    row above; a pixel adds one position of that stream. Coarser levels move on when their next position has all that
    it reads. Dropout is left out. For every block ``2 filters`` numbers of conditioning are kept at each position.

    Args:
        network: Its weights are read once, here.
        conditioning: Latents ``[N, *D]``.
    """

    @torch.no_grad()
    def __init__(self, network: Network, conditioning: Tensor) -> None:
        self.prepared = network.prepared
        self.from_above, self.from_row = _weights(network.top_above), _weights(network.top_row)
        like = self.from_above[0]
        self.device = like.device.type
        with self._exact():
            self.level = _Level(network.level, network.maps(conditioning.to(like.dtype)))
        self.from_left, self.head = (
            (bias, weight.flatten(1).t()) for weight, bias in (_weights(network.top_left), _weights(network.head[1]))
        )
        # The image with the zeros that its first convolutions see around it.
        channels, height, width = network.event_shape
        self.image = like.new_zeros(len(conditioning), channels + 1, height + 2, width + 2)
        self.row = -1

    @torch.no_grad()
    def outputs(self, row: int, column: int) -> Tensor:
        """Return ``[N, O, 1, 1]``; each position is asked for once, in raster order."""
        with self._exact():
            if row != self.row:
                self._start(row)
            above = self.image[:, :, row + 1 : row + 3, column].flatten(1)
            bias, matrix = self.from_left
            features = self.level.pixel(column, self.ready[..., column] + torch.addmm(bias, above, matrix))
            bias, matrix = self.head
            return torch.addmm(bias, functional.elu(features), matrix)[:, :, None, None]

    def put(self, row: int, column: int, pixel: Tensor) -> None:
        """Keep ``pixel [N, C]``."""
        self.image[:, :, row + 2, column + 1] = self.prepared(pixel)

    def _start(self, row: int) -> None:
        above = functional.conv2d(self.image[:, :, row : row + 2], *self.from_above)
        self.ready = functional.conv2d(self.image[:, :, row + 1 : row + 2], *self.from_row).squeeze(2)
        self.level.row(row, above)
        self.row = row

    def _exact(self) -> torch.autocast:
        # In bfloat16, rounded in another order than by a whole pass, other images would be drawn.
        return torch.autocast(self.device, enabled=False)
