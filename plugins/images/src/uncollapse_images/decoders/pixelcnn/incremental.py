"""A masked PixelCNN that draws an image."""

from __future__ import annotations

from functools import partial
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..incremental import CachedMaskedConv, pointwise
from ..masked_conv import MaskedConv2d
from .blocks import Bottleneck, through_blocks

__all__ = ["IncrementalPixelCNN"]


class Network(Protocol):
    """What is read of a :class:`PixelCNN`, which makes these states and therefore cannot be imported here."""

    width: int
    first: MaskedConv2d
    first_norm: nn.Module
    blocks: nn.ModuleList
    skips: nn.ModuleList
    head: nn.Sequential


class CachedBottleneck:
    """One residual block: the row of its masked convolution's input, and the block at a position of that row."""

    def __init__(self, block: Bottleneck, latent: Tensor | None, batch: int, width: int) -> None:
        self._reduce = pointwise(block.reduce, block.norms[0])
        self._restore = pointwise(block.restore, block.norms[2])
        self._masked = CachedMaskedConv(block.masked, block.norms[1], latent, batch, width)
        self.start = self._masked.start

    def __call__(self, h: Tensor, column: int) -> Tensor:
        """Return the block's output ``[N, channels]`` for its input there."""
        bias, matrix = self._reduce
        inner = self._masked.slots[column]
        functional.elu(torch.addmm(bias, h, matrix, out=inner), inplace=True)
        inner = functional.elu(self._masked.output(column), inplace=True)
        bias, matrix = self._restore
        return functional.elu(torch.addmm(bias, inner, matrix).add_(h), inplace=True)


class IncrementalPixelCNN:
    """The state of a :class:`PixelCNN` that draws ``N`` images: the inputs of its masked convolutions.

    Args:
        network: Whose weights count as they are now; batch normalization counts with its running statistics.
        conditioning: ``[N, K, 1, 1]`` or ``[N, K, H, W]``.
    """

    def __init__(self, network: Network, conditioning: Tensor) -> None:
        batch, width = len(conditioning), network.width
        latent = conditioning if network.first.latent_size else None
        head = network.head
        self._first = CachedMaskedConv(network.first, network.first_norm, conditioning, batch, width)
        blocks, skips = (
            [CachedBottleneck(cast(Bottleneck, block), latent, batch, width) for block in part]
            for part in (network.blocks, network.skips)
        )
        self._starts = [self._first.start, *(block.start for block in (*blocks, *skips))]
        self._at = [
            tuple([partial(block, column=column) for block in part] for part in (blocks, skips))
            for column in range(width)
        ]
        self._hidden = pointwise(cast(nn.Conv2d, head[0]), head[1])
        self._outputs = pointwise(cast(nn.Conv2d, head[-1]))
        self._row = -1

    def outputs(self, row: int, column: int) -> Tensor:
        """Return the outputs at a position, ``[N, O, 1, 1]``."""
        if row != self._row:
            self._row = row
            for start in self._starts:
                start(row)
        blocks, skips = self._at[column]
        h = through_blocks(functional.elu(self._first.output(column), inplace=True), blocks, skips)
        bias, matrix = self._hidden
        h = functional.elu(torch.addmm(bias, h, matrix), inplace=True)
        bias, matrix = self._outputs
        return torch.addmm(bias, h, matrix)[:, :, None, None]

    def put(self, row: int, column: int, pixel: Tensor) -> None:
        """Keep ``pixel [N, C]``."""
        self._first.slots[column].copy_(pixel)
