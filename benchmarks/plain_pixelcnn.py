"""The PixelCNN and the gated PixelCNN with full masked kernels, as released codes have them, to measure against.

Each convolution keeps a whole ``k x k`` kernel and multiplies it by a mask at every pass. The networks take their
weights from the core's, so that both compute the same function.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, elu
from uncollapse_images.decoders import MaskedConv2d
from uncollapse_images.decoders.gated_pixelcnn import GatedPixelCNN
from uncollapse_images.decoders.gated_pixelcnn.layers import GatedLayer, StackConv2d
from uncollapse_images.decoders.pixelcnn import PixelCNN
from uncollapse_images.decoders.pixelcnn.blocks import Bottleneck
from uncollapse_images.weight_norm import weight_normalized

__all__ = ["PlainGatedPixelCNN", "PlainPixelCNN"]


class FullMaskedConv2d(nn.Conv2d):
    """A convolution whose whole kernel is multiplied by a mask, the kernel's first taps in raster order being live.

    Args:
        taps: The live taps ``[O, C, T]``.
        size: Rows and columns of the whole kernel.
        bias: ``[O]``.
        visible: Kernels of further channels that are not masked, ``[O, V, rows, columns]``.
        log_gain: Logarithms of gains ``[O]``; the taps are then directions, and the masked weight is normalized at
            every pass, as MAE's code does.
    """

    mask: Tensor
    bias: nn.Parameter

    def __init__(
        self,
        taps: Tensor,
        size: tuple[int, int],
        bias: Tensor,
        visible: Tensor | None = None,
        log_gain: Tensor | None = None,
    ) -> None:
        kernel = nn.functional.pad(taps, (0, size[0] * size[1] - taps.shape[2])).unflatten(2, size)
        mask = (torch.arange(size[0] * size[1]) < taps.shape[2]).view(size).expand_as(kernel)
        if visible is not None:
            kernel = torch.cat([kernel, visible], 1)
            mask = torch.cat([mask, torch.ones_like(visible, dtype=torch.bool)], 1)
        super().__init__(kernel.shape[1], kernel.shape[0], size, padding=(size[0] // 2, size[1] // 2))
        self.register_buffer("mask", mask.to(kernel.dtype), persistent=False)
        self.normalized = log_gain is not None
        if log_gain is None:
            self.load_state_dict({"weight": kernel, "bias": bias})
            return
        weight_normalized(self, mask=self.mask, log_gain=True)
        gain = log_gain.view(-1, 1, 1, 1)
        self.load_state_dict(
            {"parametrizations.weight.original0": gain, "parametrizations.weight.original1": kernel, "bias": bias}
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[N, O, H, W]``."""
        # With weight normalization the mask is multiplied before the norm is taken.
        weight = self.weight if self.normalized else self.weight * self.mask
        return conv2d(x, weight, self.bias, padding=self.padding)


def full(layer: MaskedConv2d, normalize: bool) -> FullMaskedConv2d:
    """Return a masked convolution of the core with its whole kernel, and the kernels of its visible channels."""
    k, log_gain, weight = layer.kernel_size[0], None, layer.weight.detach()
    if normalize:
        log_gain, weight = (layer.get_parameter(f"parametrizations.weight.original{i}").detach() for i in range(2))
    taps = weight[:, : layer.masked_weights].unflatten(1, (layer.in_channels, layer.live_taps))
    visible = None
    if layer.visible_channels:
        visible = weight[:, layer.masked_weights : layer.image_weights].unflatten(1, (layer.visible_channels, k, k))
    return FullMaskedConv2d(taps, (k, k), cast(Tensor, layer.bias).detach(), visible, log_gain)


def pointwise(layer: nn.Conv2d, normalize: bool) -> nn.Conv2d:
    """Return a copy of a 1x1 convolution."""
    copy = nn.Conv2d(layer.in_channels, layer.out_channels, 1)
    if normalize:
        weight_normalized(copy).load_state_dict(layer.state_dict())
    else:
        copy.load_state_dict({"weight": layer.weight.detach(), "bias": cast(Tensor, layer.bias).detach()})
    return copy


class PlainBlock(nn.Module):
    """``elu(h + 1x1(elu(masked(elu(1x1(h))))))``."""

    def __init__(self, block: Bottleneck, normalize: bool) -> None:
        super().__init__()
        self.main = nn.Sequential(
            pointwise(block.reduce, normalize),
            nn.ELU(),
            full(block.masked, normalize),
            nn.ELU(),
            pointwise(block.restore, normalize),
        )

    def forward(self, h: Tensor) -> Tensor:
        """Return ``[N, channels, H, W]``."""
        return elu(self.main(h) + h)


class PlainPixelCNN(nn.Module):
    """The masked PixelCNN with maps of the latent.

    Args:
        network: Whose weights to take.
        normalize: Weight normalization at every pass; without it the weights are taken as they are.
    """

    def __init__(self, network: PixelCNN, normalize: bool = False) -> None:
        super().__init__()
        self.first = full(network.first, normalize)
        self.blocks = nn.ModuleList(PlainBlock(cast(Bottleneck, b), normalize) for b in network.blocks)
        self.skips = nn.ModuleList(PlainBlock(cast(Bottleneck, s), normalize) for s in network.skips)
        hidden, outputs = cast(nn.Conv2d, network.head[0]), cast(nn.Conv2d, network.head[-1])
        self.head = nn.Sequential(pointwise(hidden, normalize), nn.ELU(), pointwise(outputs, normalize))

    def forward(self, x: Tensor, conditioning: Tensor) -> Tensor:
        """Return ``[N, O, H, W]`` for ``x [N, C, H, W]`` and maps ``[N, K, H, W]``."""
        h = elu(self.first(torch.cat([x, conditioning], 1)))
        outputs = [h]
        for i, block in enumerate(self.blocks, start=1):
            if i > 2 and self.skips:
                h = h + self.skips[i - 3](outputs[i - 3])
            h = block(h)
            outputs.append(h)
        if self.skips:
            h = h + self.skips[-1](outputs[-3])
        logits: Tensor = self.head(h)
        return logits


class PlainGatedLayer(nn.Module):
    """A layer of both stacks, with ``k x k`` and ``1 x k`` kernels under masks."""

    def __init__(self, layer: GatedLayer) -> None:
        super().__init__()
        k = layer.vertical.kernel_size[1]

        def whole(conv: StackConv2d, rows: int) -> FullMaskedConv2d:
            taps = conv.weight.detach()[:, : conv.image_weights].unflatten(1, (conv.in_channels, -1))
            return FullMaskedConv2d(taps, (rows, k), cast(Tensor, conv.bias).detach())

        self.vertical, self.horizontal = whole(layer.vertical, k), whole(layer.horizontal, 1)
        self.link, self.out = pointwise(layer.link, False), pointwise(layer.out, False)
        stacks = (layer.vertical, layer.horizontal)
        self.conditions = nn.ParameterList(s.weight.detach()[:, s.image_weights :, None, None].clone() for s in stacks)
        self.first = layer.first

    def forward(self, v: Tensor, h: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of the vertical and of the horizontal stack."""
        above = self.vertical(v) + conv2d(condition, self.conditions[0])
        along = self.horizontal(h) + self.link(above) + conv2d(condition, self.conditions[1])
        (a, b), (c, d) = above.chunk(2, 1), along.chunk(2, 1)
        out = self.out(torch.tanh(c) * torch.sigmoid(d))
        return torch.tanh(a) * torch.sigmoid(b), out if self.first else out + h


class PlainGatedPixelCNN(nn.Module):
    """The gated PixelCNN.

    Args:
        network: Whose weights to take.
    """

    def __init__(self, network: GatedPixelCNN) -> None:
        super().__init__()
        self.layers = nn.ModuleList(PlainGatedLayer(cast(GatedLayer, layer)) for layer in network.layers)
        self.hidden, self.outputs = pointwise(network.hidden, False), pointwise(network.outputs, False)

    def forward(self, x: Tensor, conditioning: Tensor) -> Tensor:
        """Return ``[N, O, H, W]`` for ``x [N, C, H, W]`` and the condition ``[N, K, ...]``."""
        v = h = x
        for layer in self.layers:
            v, h = layer(v, h, conditioning)
        logits: Tensor = self.outputs(torch.relu(self.hidden(torch.relu(h))))
        return logits
