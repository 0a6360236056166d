"""Convolutions in raster order, with parameters for the visible taps only."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from uncollapse.errors import ShapeError

from .condition import added

__all__ = ["MaskedConv2d", "convolution1x1"]


class MaskedConv2d(nn.Conv2d):
    """A convolution that sees, at each position, only positions before it in raster order: van den Oord et al.,
    Pixel Recurrent Neural Networks (2016), section 3.4, https://arxiv.org/abs/1601.06759.

    A ``k x k`` kernel keeps its ``k // 2`` rows above the centre and the part of the centre's row left of it; the
    centre itself is kept by mask B (``include_centre=True``) and left out by mask A. What these masks hide has no
    parameter: weight norms, weight decay and parameter counts are of live taps alone. All channels of a position are
    masked alike unless ``centre`` says which of them are seen there.

    Two further inputs are not masked. ``visible_channels`` are maps whose whole ``k x k`` neighbourhood is seen
    everywhere, as in the released code of Ma et al., MAE (2019). A latent of ``latent_size`` numbers is seen everywhere
    alike, so that it is a bias per channel: van den Oord et al., Conditional Image Generation with PixelCNN Decoders
    (2016), eq. 4, https://arxiv.org/abs/1606.05328.

    ``weight`` is flat, ``[out_channels, fan_in]``: live taps in raster order for each masked channel, then the visible
    channels' kernels, then the latent's weights.

    Args:
        in_channels: Channels that are masked.
        out_channels: Channels of the output.
        kernel_size: Odd ``k``.
        include_centre: Mask B rather than mask A.
        visible_channels: Channels that are not masked.
        latent_size: Numbers of the latent; 0 without one.
        bias: Add a learned bias.
        centre: ``[out_channels, in_channels]``, True where an output sees an input at the centre; all if None. Needs
            ``include_centre``. What it hides has a parameter that is never used; ``live`` is the mask of the weight.

    Raises:
        ShapeError: ``kernel_size`` is even or below 1, or nothing is left of the kernel (mask A with ``k = 1``).
    """

    live: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        include_centre: bool,
        visible_channels: int = 0,
        latent_size: int = 0,
        bias: bool = True,
        centre: Tensor | None = None,
    ) -> None:
        if kernel_size < 1 or kernel_size % 2 == 0 or (kernel_size == 1 and not include_centre):
            raise ShapeError(
                f"a masked kernel has an odd size of at least {1 if include_centre else 3}, found {kernel_size}"
            )
        # On "meta", the k x k weights that are replaced below cost neither memory nor random numbers.
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias, device="meta")
        self.visible_channels = visible_channels
        self.latent_size = latent_size
        self.reach = kernel_size // 2
        # In raster order the live taps are the first ones of the kernel, so one flat run of numbers holds them.
        self.live_taps = self.reach * kernel_size + self.reach + int(include_centre)
        self.masked_weights = in_channels * self.live_taps
        self.image_weights = self.masked_weights + visible_channels * kernel_size**2
        self.weight = nn.Parameter(torch.empty(out_channels, self.image_weights + latent_size))
        # torch's own defaults for the convolution and for the linear layer that this sums.
        nn.init.kaiming_uniform_(self.weight[:, : self.image_weights], a=math.sqrt(5))
        if latent_size:
            nn.init.kaiming_uniform_(self.weight[:, self.image_weights :], a=math.sqrt(5))
        if bias:
            self.bias = nn.Parameter(torch.empty(out_channels))
            nn.init.uniform_(self.bias, -1 / math.sqrt(self.image_weights), 1 / math.sqrt(self.image_weights))
        live = None
        if centre is not None:
            live = torch.ones_like(self.weight, dtype=torch.bool)
            live[:, self.live_taps - 1 : self.masked_weights : self.live_taps] = centre
        self.register_buffer("live", live, persistent=False)

    def forward(self, input: Tensor, visible: Tensor | None = None, latent: Tensor | None = None) -> Tensor:
        """Return ``[N, out_channels, H, W]``.

        Args:
            input: Masked channels ``[B, in_channels, H, W]``; ``N = B`` without the others.
            visible: Unmasked channels ``[N, visible_channels, H, W]``, where the layer has them; ``N`` a multiple of
                ``B``, row ``s * B + b`` beside the input's row ``b``. The input's part is computed for ``B`` rows only.
            latent: ``[N, latent_size]``, where the layer has one.
        """
        k, reach = self.kernel_size[0], self.reach
        weight = self.weight if self.live is None else self.weight * self.live
        # One convolution with a kernel completed by zeros: measured against the sum of two (rows above, left part)
        # and against masking a k x k kernel (float32, batch 100, one core, forward and backward, ms):
        #              28x28, 64 ch, k = 7   k = 5   k = 3  |  8x8, 32 ch, k = 7   k = 5   k = 3
        #   one             623 - 738         395     180-222          13.9          9.6     4.0
        #   two             686 - 839         402     285              14.5          9.7     4.7
        #   masked            1031            584     400              18.1         10.2     4.8
        # Rows of zeros go on top of the input alone: padding both sides and cropping the output computes `reach` rows
        # for nothing, which on small images is dear (8x8, k = 7: 16.6). With visible channels one k x k kernel for all
        # channels took 5.7 against 7.7 for a convolution each, where the images are not shared.
        together = visible is not None and len(visible) == len(input)
        rows = k if together else reach + 1
        taps = weight[:, : self.masked_weights].reshape(-1, self.in_channels, self.live_taps)
        kernel = functional.pad(taps, (0, rows * k - self.live_taps)).view(-1, self.in_channels, rows, k)
        if visible is None or not together:
            input = functional.pad(input, (0, 0, reach, 0)) if reach else input
            output = functional.conv2d(input, kernel, self.bias, padding=(0, reach))
        if visible is not None:
            whole = weight[:, self.masked_weights : self.image_weights].reshape(-1, self.visible_channels, k, k)
            if together:
                kernel = torch.cat([kernel, whole], dim=1)
                output = functional.conv2d(torch.cat([input, visible], dim=1), kernel, self.bias, padding=reach)
            else:
                output = added(output, functional.conv2d(visible, whole, padding=reach))
        if latent is None:
            return output
        return added(output, functional.linear(latent, weight[:, self.image_weights :])[:, :, None, None])

    def extra_repr(self) -> str:
        """Return the sizes, for ``print(model)``."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size[0]}, live_taps={self.live_taps}, "
            f"visible_channels={self.visible_channels}, latent_size={self.latent_size}"
        )


def convolution1x1(inputs: int, outputs: int, bias: bool, connections: Tensor | None) -> nn.Conv2d:
    """Return a 1x1 convolution, with the connections ``[outputs, inputs]`` only, if they are given."""
    if connections is None:
        return nn.Conv2d(inputs, outputs, 1, bias=bias)
    return MaskedConv2d(inputs, outputs, 1, include_centre=True, bias=bias, centre=connections)
