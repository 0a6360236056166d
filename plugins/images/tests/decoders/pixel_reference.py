"""What autoregressive image decoders are compared with: a plain sampling loop, and what a network may see."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from uncollapse.likelihoods import BernoulliLikelihood
from uncollapse_images.decoders import GatedPixelCNNDecoder, PixelCNNDecoder

KINDS = {"masked": PixelCNNDecoder, "gated": GatedPixelCNNDecoder}
Node = tuple[int, int, int]


def build(kind: str, event: tuple[int, int, int], likelihood: Any = None, channels: int = 6, **fields: Any) -> Any:
    """Return a small decoder in float64, its weights initialized and its batch statistics known."""
    fields = {"kernels": (5, 3, 1), **fields}
    decoder = KINDS[kind]((2,), event, likelihood or BernoulliLikelihood(event), channels=channels, **fields).double()
    z, x = torch.randn(20, 2).double(), torch.rand(20, *event).double().round()
    decoder.initialize(z, x)
    for module in decoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the statistics of one pass are the running ones
    with torch.no_grad():
        decoder.train()(z).log_prob(x)
    return decoder.eval()


@torch.no_grad()
def plain_sample(decoder: Any, z: Tensor) -> Tensor:
    """Draw ``[*batch, *X]`` with a pass over the whole image for every pixel, or for every channel of it in order."""
    batch, (channels, height, width) = z.shape[:-1], decoder.event_shape
    condition = decoder.network.condition(z).flatten(0, len(batch) - 1)
    x = torch.zeros(len(condition), channels, height, width, dtype=z.dtype, device=z.device)
    order = decoder.network.channel_order
    for row, column in product(range(height), range(width)):
        for drawn in [list(range(channels))] if order is None else [[channel] for channel in order]:
            outputs = decoder.network(x, condition)[:, :, row : row + 1, column : column + 1]
            x[:, drawn, row, column] = decoder.likelihood(outputs).sample()[:, drawn, 0, 0]
    return x.view(*batch, channels, height, width)


class Reach:
    """Which channels of which pixels a stack of kernels sees, by walking back over its offsets.

    A node is (row, column, group): the features of a position that belong to the group of one channel, counted in the
    order of drawing. Without an order there is one group, and a pixel is a node of group 0 too.
    """

    def __init__(self, kernels: Sequence[int], size: tuple[int, int], groups: int = 1) -> None:
        self.kernels, self.size, self.groups = kernels, size, groups

    def _inside(self, row: int, column: int) -> bool:
        # Positions outside the image are padding: nothing is seen through them.
        return 0 <= row < self.size[0] and 0 <= column < self.size[1]

    def _whole(self, positions: set[tuple[int, int]]) -> set[Node]:
        return {(*p, g) for p in positions if self._inside(*p) for g in range(self.groups)}

    def _own(self, nodes: set[Node], strict: bool) -> set[Node]:
        return {(r, c, g) for r, c, own in nodes for g in range(own if strict else own + 1)}

    def masked(self, node: Node) -> set[Node]:
        """Return the pixels that the masked PixelCNN sees from a node."""
        seen = {node}
        for layer, k in reversed(list(enumerate(self.kernels))):
            above = [(-r, c - k // 2) for r in range(1, k // 2 + 1) for c in range(k)]
            left = [(0, -c) for c in range(1, k // 2 + 1)]
            before = {(row + dr, column + dc) for row, column, _ in seen for dr, dc in above + left}
            seen = self._whole(before) | self._own(seen, strict=layer == 0)
        return seen

    def gated(self, node: Node) -> set[Node]:
        """Return the pixels that the gated PixelCNN's horizontal stack sees from a node."""
        horizontal, vertical = {node}, set[tuple[int, int]]()
        for layer, k in reversed(list(enumerate(self.kernels))):
            reach = k // 2
            before_gate = vertical | {(row, column) for row, column, _ in horizontal}
            left = {(row, column - c) for row, column, _ in horizontal for c in range(1, reach + 1)}
            horizontal = self._whole(left) | self._own(horizontal, strict=layer == 0)
            rows = range(1 if layer == 0 else 0, reach + 1)
            vertical = {
                (row - r, column + c) for row, column in before_gate for r in rows for c in range(-reach, reach + 1)
            }
            vertical = {p for p in vertical if self._inside(*p)}
        return horizontal | self._whole(vertical)
