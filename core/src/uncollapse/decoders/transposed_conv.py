"""Transposed convolutions that a CPU computes quickly."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["TransposedConv2d"]

_FEW_CHANNELS = 3


class TransposedConv2d(nn.ConvTranspose2d):
    """``nn.ConvTranspose2d`` with another way through torch on the CPU; same parameters, same numbers to rounding.

    oneDNN, which torch asks on CPUs, takes 1.3 to 3 times as long for maps with their channels first as for those with
    their channels last. And it fills up channels to a multiple of 16, so that a layer with a single output channel, as
    every decoder of grey images ends in, costs as much as one with 16; torch's own kernel does that layer two to nine
    times as fast.
    """

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return ``[B, out_channels, H', W']`` for ``input [B, in_channels, H, W]``."""
        if input.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(input, output_size)
        plain = output_size is None and self.groups == 1 and input.dim() == 4 and input.dtype == self.weight.dtype
        if self.out_channels > _FEW_CHANNELS or not plain or torch.is_autocast_enabled("cpu"):
            return super().forward(input.contiguous(memory_format=torch.channels_last), output_size)
        output: Tensor = torch.ops.aten.slow_conv_transpose2d(
            input.contiguous(), self.weight, self.kernel_size, self.bias,
            self.stride, self.padding, self.output_padding, self.dilation,
        )  # fmt: skip
        return output
