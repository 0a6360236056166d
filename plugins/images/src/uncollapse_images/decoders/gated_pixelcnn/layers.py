"""One layer of the gated PixelCNN: a step of the vertical stack and one of the horizontal stack."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..channel_order import ChannelOrdering
from ..condition import added
from ..masked_conv import convolution1x1
from ..normalization import Normalization, normalizer

__all__ = ["GatedLayer", "StackConv2d", "gate"]


def gate(features: Tensor) -> Tensor:
    """Return ``tanh(a) * sigmoid(b)`` ``[N, p, ...]`` for features ``[N, 2p, ...]`` that hold ``a``, then ``b``."""
    a, b = features.chunk(2, dim=1)
    return a.tanh() * b.sigmoid()


class StackConv2d(nn.Conv2d):
    """The argument of a gate, ``W * x + V s``: a convolution over positions above or to the left, and the condition.

    Van den Oord et al., Conditional Image Generation with PixelCNN Decoders (2016), eq. 4 and the one after it,
    https://arxiv.org/abs/1606.05328: the same ``V`` serves a latent that is the same everywhere (``[N, K, 1, 1]``) and
    maps (``[N, K, H, W]``, a 1x1 convolution). Where the kernel ends is a matter of padding, as the paper has it:
    no weight is masked, unless channels of one pixel are ordered.

    ``weight`` is flat, ``[out_channels, fan_in]``: the kernel, then ``V``.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        window: Rows and columns of the kernel.
        edges: Zeros that are added left, right, above and below the input; a negative number cuts rows or columns off.
        condition_channels: Channels ``K`` of the condition; 0 without one.
        bias: Add a learned bias.
        centre: ``[out_channels, in_channels]``, True where an output sees an input through the kernel's last tap; all
            if None. ``live`` is the mask of the weight that it makes.
    """

    live: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        window: tuple[int, int],
        edges: tuple[int, int, int, int],
        *,
        condition_channels: int = 0,
        bias: bool = True,
        centre: Tensor | None = None,
    ) -> None:
        super().__init__(in_channels, out_channels, window, bias=bias, device="meta")
        self.edges = edges
        self.condition_channels = condition_channels
        taps = math.prod(window)
        self.image_weights = in_channels * taps
        self.weight = nn.Parameter(torch.empty(out_channels, self.image_weights + condition_channels))
        # torch's own defaults for the two layers that this sums.
        nn.init.kaiming_uniform_(self.weight[:, : self.image_weights], a=math.sqrt(5))
        if condition_channels:
            nn.init.kaiming_uniform_(self.weight[:, self.image_weights :], a=math.sqrt(5))
        if bias:
            self.bias = nn.Parameter(torch.empty(out_channels))
            nn.init.uniform_(self.bias, -1 / math.sqrt(self.image_weights), 1 / math.sqrt(self.image_weights))
        live = None
        if centre is not None:
            live = torch.ones_like(self.weight, dtype=torch.bool)
            live[:, taps - 1 : self.image_weights : taps] = centre
        self.register_buffer("live", live, persistent=False)

    def forward(self, input: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return ``[N, out_channels, H, W]``.

        Args:
            input: ``[B, in_channels, H, W]``; ``N = B`` without a condition.
            condition: ``[N, K, 1, 1]`` or ``[N, K, H, W]``, where the layer has one; row ``s * B + b`` belongs to the
                input's row ``b``. The input's part is computed for ``B`` rows only.
        """
        weight = self.weight if self.live is None else self.weight * self.live
        kernel = weight[:, : self.image_weights].unflatten(1, (self.in_channels, *self.kernel_size))
        output = functional.conv2d(functional.pad(input, self.edges), kernel, self.bias)
        if condition is None or not self.condition_channels:
            return output
        return added(output, functional.conv2d(condition, weight[:, self.image_weights :, None, None]))

    def extra_repr(self) -> str:
        """Return the sizes, for ``print(model)``."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, edges={self.edges}, "
            f"condition_channels={self.condition_channels}"
        )


class GatedLayer(nn.Module):
    """A layer of both stacks: van den Oord et al. (2016), figure 2 and eq. 4, https://arxiv.org/abs/1606.05328.

    The vertical stack at a position has seen the rows above, the horizontal one the row itself left of it, and through
    a 1x1 convolution of the vertical stack's features before their gate all that this has seen: no pixel is left out.
    With a reach of ``k // 2``, the vertical kernel has ``k`` columns and ends in the own row, which for a vertical
    stack means the rows above; in the first layer it ends in the row above, since its input is the image.

    Args:
        in_channels: Channels of the input of the horizontal stack, and of the vertical one.
        channels: Channels ``p`` of the output.
        kernel_size: Odd ``k``.
        condition_channels: Channels of the condition.
        condition_vertical: The vertical stack's gates get the condition too.
        first: Mask A: no stack sees the position itself, and there is no residual connection.
        last: There is no next layer, so that the vertical stack needs no output.
        normalization: ``batch`` normalizes the output of every convolution.
        ordering: In which order the channels of a pixel are drawn.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel_size: int,
        condition_channels: int,
        *,
        condition_vertical: bool,
        first: bool,
        last: bool,
        normalization: Normalization,
        ordering: ChannelOrdering,
    ) -> None:
        super().__init__()
        reach, bias = kernel_size // 2, normalization != "batch"
        features = ordering.features(channels)
        inputs = ordering.values(in_channels) if first else features
        gates = None if features is None else features.repeat(2)
        # The first layer's kernels end before the position, unless its earlier channels are to be seen.
        above, left = reach + (not first), reach + (not first or ordering.order is not None)
        self.first, self.last = first, last
        self.vertical = StackConv2d(
            in_channels,
            2 * channels,
            (above, kernel_size),
            (reach, reach, reach, above - reach - 1),
            condition_channels=condition_channels if condition_vertical else 0,
            bias=bias,
        )
        self.link = nn.Conv2d(2 * channels, 2 * channels, 1, bias=bias)
        self.horizontal = StackConv2d(
            in_channels,
            2 * channels,
            (1, left),
            (reach, left - reach - 1, 0, 0),
            condition_channels=condition_channels,
            bias=bias,
            centre=ordering.connections(inputs, gates, strict=first),
        )
        self.out = convolution1x1(channels, channels, bias, ordering.connections(features, features))
        widths = {"vertical": 2 * channels, "link": 2 * channels, "horizontal": 2 * channels, "out": channels}
        self.norms = nn.ModuleDict({name: normalizer(normalization, width) for name, width in widths.items()})

    def forward(self, v: Tensor, h: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return the outputs of the vertical and of the horizontal stack, the former before its gate if ``last``.

        Args:
            v: Features of the vertical stack ``[B or N, in_channels, H, W]``.
            h: Features of the horizontal stack, likewise.
            condition: ``[N, K, 1, 1]`` or ``[N, K, H, W]``; row ``s * B + b`` belongs to image ``b``.
        """
        above = self.norms["vertical"](self.vertical(v, condition))
        along = self.norms["horizontal"](self.horizontal(h, condition))
        features = gate(added(self.norms["link"](self.link(above)), along))
        out = self.norms["out"](self.out(features))
        return above if self.last else gate(above), out if self.first else out + h
