"""The layers of a PixelCNN++: convolutions that look up and left only, and gated residual blocks of two streams."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...weight_norm import weight_normalized
from ..condition import added

__all__ = ["Activation", "GatedBlock", "GatedPair", "ShiftedConv2d", "shift_down", "shift_right"]

Activation = Literal["concat_elu", "elu"]

_GATE_SCALE = 0.1


class ConcatELU(nn.Module):
    """``elu([x, -x])`` along the channels: Salimans et al., PixelCNN++ (2017), section 2.4, in its released code; after
    Shang et al. (2016), https://arxiv.org/abs/1603.05201.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[N, 2 C, ...]`` for ``x [N, C, ...]``."""
        return functional.elu(torch.cat([x, -x], dim=1), inplace=True)


def activation_of(name: Activation) -> tuple[nn.Module, int]:
    """Return an activation, and how many channels it makes of one."""
    return (ConcatELU(), 2) if name == "concat_elu" else (nn.ELU(), 1)


class ShiftedConv2d(nn.Conv2d):
    """A convolution of an image that is padded, or cropped where a number is negative, on each side by itself.

    Padding at the top and left alone lets a position see what lies above it and to its left, and nothing else, without
    a mask: Salimans et al., PixelCNN++ (2017), section 2.4 (figure 2), https://arxiv.org/abs/1701.05517.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Height and width.
        sides: Rows and columns of zeros ``(left, right, top, bottom)``.
        stride: Of both directions.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int],
        sides: tuple[int, int, int, int],
        stride: int = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride)
        self.sides = sides

    def forward(self, input: Tensor) -> Tensor:
        """Return ``[N, out_channels, H', W']`` for ``input [N, in_channels, H, W]``."""
        return super().forward(functional.pad(input, self.sides))


def shift_down(in_channels: int, out_channels: int, stride: int = 1) -> ShiftedConv2d:
    """Return a convolution over a position's row and the row above, one column to each side."""
    return ShiftedConv2d(in_channels, out_channels, (2, 3), (1, 1, 1, 0), stride)


def shift_right(in_channels: int, out_channels: int, stride: int = 1) -> ShiftedConv2d:
    """Return a convolution over a position, its left neighbour and the two above these."""
    return ShiftedConv2d(in_channels, out_channels, (2, 2), (1, 0, 1, 0), stride)


def spread(t: Tensor, rows: int) -> Tensor:
    """Return ``t [B, ...]`` repeated to ``[rows, ...]``, where row ``s * B + b`` is row ``b``."""
    return t if len(t) == rows else t.repeat(rows // len(t), *[1] * (t.dim() - 1))


def add(a: Tensor, b: Tensor) -> Tensor:
    """Return ``a + b``, of which one may have ``B`` rows and the other ``N = S * B``; row ``s * B + b`` takes ``b``."""
    return added(a, b) if len(a) <= len(b) else added(b, a)


class GatedBlock(nn.Module):
    """``x + a sigmoid(b)``, where ``a, b = conv(f(conv(f(x)) + short cut)) + conditioning``.

    Salimans et al., PixelCNN++ (2017), section 2.4, in its released code: the second convolution starts with outputs
    a tenth as large as those of other layers, so that a block starts near the identity. Gates: van den Oord et al.,
    Conditional Image Generation with PixelCNN Decoders (2016), eq. 4, https://arxiv.org/abs/1606.05328.

    Args:
        down: Look at the rows above and all of the own row (:func:`shift_down`), or up and left (:func:`shift_right`).
        filters: Channels.
        shortcuts: How many streams come over short cuts, through one 1x1 convolution.
        activation: See :data:`Activation`.
        dropout: Probability that a hidden channel's value is left out.
    """

    def __init__(self, down: bool, filters: int, shortcuts: int, activation: Activation, dropout: float) -> None:
        super().__init__()
        self.shortcuts = shortcuts
        conv = shift_down if down else shift_right
        self.activation, wide = activation_of(activation)
        self.first = weight_normalized(conv(wide * filters, filters))
        self.shortcut = weight_normalized(nn.Conv2d(wide * shortcuts * filters, filters, 1)) if shortcuts else None
        self.dropout = nn.Dropout(dropout)
        self.second = weight_normalized(conv(wide * filters, 2 * filters), output_scale=_GATE_SCALE)

    def forward(self, x: Tensor, conditioning: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """Return ``[N, filters, H, W]``.

        Args:
            x: ``[B or N, filters, H, W]``.
            conditioning: ``[N, 2 filters, H, W]``.
            shortcut: ``[B or N, shortcuts * filters, H, W]``, where the block has one.
        """
        hidden = self.first(self.activation(x))
        if self.shortcut is not None and shortcut is not None:
            hidden = add(hidden, self.shortcut(self.activation(shortcut)))
        hidden = self.dropout(self.activation(hidden))
        return add(x, functional.glu(add(self.second(hidden), conditioning), dim=1))


class GatedPair(nn.Module):
    """A block of each stream: ``above`` knows the rows above, and ``left`` these and what lies to the left.

    What the rows above know goes to ``left`` over a short cut. Both blocks get the same conditioning: two 3x3
    convolutions of the latent's maps, the second starting at a tenth, as in MAE's released code (Ma et al., 2019,
    https://arxiv.org/abs/1901.01498).

    Args:
        filters: Channels of each stream.
        maps: Channels of the latent's maps.
        shortcuts: The block also gets what a block of the way down to coarser levels put out, in both streams.
        activation: See :data:`Activation`.
        dropout: Inside both blocks.
    """

    def __init__(self, filters: int, maps: int, shortcuts: bool, activation: Activation, dropout: float) -> None:
        super().__init__()
        act, wide = activation_of(activation)
        self.conditioning = nn.Sequential(
            act,
            weight_normalized(nn.Conv2d(wide * maps, filters, 3, padding=1)),
            act,
            weight_normalized(nn.Conv2d(wide * filters, 2 * filters, 3, padding=1), output_scale=_GATE_SCALE),
        )
        self.above = GatedBlock(True, filters, 1 if shortcuts else 0, activation, dropout)
        self.left = GatedBlock(False, filters, 2 if shortcuts else 1, activation, dropout)

    def forward(
        self, above: Tensor, left: Tensor, maps: Tensor, shortcuts: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return both streams ``[N, filters, H, W]``.

        Args:
            above: ``[B or N, filters, H, W]``.
            left: ``[B or N, filters, H, W]``.
            maps: ``[N, maps, H, W]``.
            shortcuts: Of both streams, ``[B or N, filters, H, W]`` each, where the pair has them.
        """
        conditioning = self.conditioning(maps)
        if shortcuts is None:
            above = self.above(above, conditioning)
            return above, self.left(left, conditioning, above)
        above = self.above(above, conditioning, shortcuts[0])
        seen = torch.cat([above, spread(shortcuts[1], len(above))], dim=1)
        return above, self.left(left, conditioning, seen)
