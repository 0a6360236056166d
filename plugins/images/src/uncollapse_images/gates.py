"""Gated linear units, layers whose output is a linear map times the sigmoid of another, and Gaussian heads on them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from uncollapse.distributions import DiagonalNormal

__all__ = ["GatedConv2d", "GatedLinear", "GatedSum", "GaussianHead"]


class _HeLinear(nn.Linear):
    """A linear layer with weights from ``N(0, 2 / inputs)``: He et al., Delving Deep into Rectifiers (2015), eq. 10,
    https://arxiv.org/abs/1502.01852, as VampPrior's released code starts every fully connected layer.
    """

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.normal_(self.weight, std=math.sqrt(2 / self.in_features))


class GatedLinear(_HeLinear):
    """``(W x + b) * sigmoid(V x + c)``: Dauphin et al., Language Modeling with Gated Convolutional Networks (2017),
    eq. 1, https://arxiv.org/abs/1612.08083, which Tomczak and Welling (2018), https://arxiv.org/abs/1705.07120, take
    for their only nonlinearity.

    The first half of the weight's rows is ``W``, the second ``V``.

    Args:
        in_features: Inputs.
        out_features: Outputs.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, 2 * out_features)

    def forward(self, input: Tensor) -> Tensor:
        """Return ``[..., out_features]`` for ``[..., in_features]``."""
        return functional.glu(super().forward(input), dim=-1)


class GatedSum(GatedLinear):
    """A :class:`GatedLinear` layer of two inputs laid side by side, each of which may broadcast against the other.

    ``W (a, b)`` is ``W_a a + W_b b``: what depends on one input alone is computed once for all values of the other.

    Args:
        first: Size of the first input.
        second: Size of the second input.
        out_features: Outputs.
    """

    def __init__(self, first: int, second: int, out_features: int) -> None:
        super().__init__(first + second, out_features)
        self.split = first

    def forward(self, first: Tensor, second: Tensor) -> Tensor:  # type: ignore[override]
        """Return ``[..., out_features]`` for ``[..., first]`` and ``[..., second]``."""
        of_first = functional.linear(first, self.weight[:, : self.split], self.bias)
        return functional.glu(of_first + functional.linear(second, self.weight[:, self.split :]), dim=-1)


class GatedConv2d(nn.Conv2d):
    """A convolution times the sigmoid of another: Dauphin et al. (2017), eq. 1, https://arxiv.org/abs/1612.08083.

    Padding is ``(kernel_size - 1) // 2``: an odd kernel takes a map of ``n`` to ``ceil(n / stride)``.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Height and width of the kernels.
        stride: Of both convolutions.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__(in_channels, 2 * out_channels, kernel_size, stride, padding=(kernel_size - 1) // 2)

    def forward(self, input: Tensor) -> Tensor:
        """Return ``[N, out_channels, h, w]`` for ``[N, in_channels, H, W]``."""
        return functional.glu(super().forward(input), dim=1)


class GaussianHead(_HeLinear):
    """A linear layer to the moments of a diagonal Gaussian: Kingma and Welling (2014), appendix C.2,
    https://arxiv.org/abs/1312.6114.

    Args:
        in_features: Inputs.
        dim: Dimension ``D`` of the Gaussian.
        logvar_range: Hard limits on the log-variance, ``[-6, 2]`` in VampPrior's released code, or None.
    """

    def __init__(self, in_features: int, dim: int, logvar_range: tuple[float, float] | None = None) -> None:
        super().__init__(in_features, 2 * dim)
        self.logvar_range = logvar_range

    def forward(self, input: Tensor) -> DiagonalNormal:  # type: ignore[override]
        """Return the Gaussian, batch ``[...]``, event ``(D,)``, for ``[..., in_features]``."""
        outputs = super().forward(input)
        if outputs.dtype in (torch.bfloat16, torch.float16):
            outputs = outputs.float()
        mean, logvar = outputs.chunk(2, dim=-1)
        if self.logvar_range is not None:
            logvar = functional.hardtanh(logvar, *self.logvar_range)
        return DiagonalNormal(mean, logvar)
