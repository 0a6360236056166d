"""Stein VAE: codes move along the direction that lowers their divergence from the prior fastest."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor
from torch.distributions import Distribution
from uncollapse.config import BuildContext
from uncollapse.distributions import DiagonalNormal
from uncollapse.errors import ConfigError

from .divergence import Divergence, DivergenceConfig, Measured
from .functional import stein_direction, stein_discrepancy, stein_surrogate
from .kernels import SteinBandwidth, stein_bandwidth

__all__ = ["Stein", "SteinConfig"]


class Stein(Divergence):
    """``lambda`` times the Stein variational gradient of ``KL(q(z) || p(z))``: Zhao et al., InfoVAE (2017), section
    4.1.2, https://arxiv.org/abs/1706.02262v1.

    The gradient is that of the surrogate ``-mean_i z_i . stopgrad(phi_i)``, with the sign that lowers the divergence
    (see :func:`~uncollapse_infovae.functional.stein_surrogate`; the printed one raises it and is not offered). The
    kernel is Gaussian, and no gradient goes through its bandwidth. A surrogate's value says nothing, so the penalty's
    value is ``lambda`` times the squared kernelized Stein discrepancy, the rate at which ``phi`` lowers the
    divergence: zero where codes and prior agree, and fit for comparing models.

    The prior needs a differentiable ``log_prob``; its own parameters get no gradient. Several samples per example are
    several sets of codes. Under data parallelism the codes are those of the global batch.

    Args:
        weight: ``lambda``, which the paper does not state.
        bandwidth: ``median``, ``median_released``, ``dimension``, ``twice_dimension`` or a number: see
            :func:`~uncollapse_infovae.kernels.stein_bandwidth`.
        alpha: Of the later family; 1 leaves the rate out.

    Raises:
        ConfigError: A weight or the bandwidth is out of range.
    """

    name = "infovae.stein"

    def __init__(self, weight: float = 10.0, bandwidth: SteinBandwidth | float = "median", alpha: float = 1.0) -> None:
        super().__init__(weight, alpha)
        names = get_args(SteinBandwidth)
        if bandwidth not in names if isinstance(bandwidth, str) else not bandwidth > 0:
            raise ConfigError(
                f"{self.name}: bandwidth must be a positive number or one of {', '.join(names)}; found {bandwidth!r}"
            )
        self.bandwidth = bandwidth

    def measure(self, z: Tensor, p_z: Distribution) -> Measured:
        """Return the Stein discrepancy of codes ``z [S, B, *D]``, with the gradient of the surrogate."""
        score = _score(z, p_z).flatten(2)
        codes = z.flatten(2)
        codes = codes.float() if codes.dtype in (torch.bfloat16, torch.float16) else codes
        sets = []
        for code, slope in zip(codes, score, strict=True):
            h = stein_bandwidth(code, self.bandwidth)
            surrogate = stein_surrogate(code, stein_direction(code.detach(), slope, h))
            sets.append(torch.stack([surrogate, stein_discrepancy(code, slope, h)]))
        surrogate, discrepancy = torch.stack(sets).mean(0)
        value = discrepancy.detach() + surrogate - surrogate.detach()
        return Measured(value, {"stein_discrepancy": discrepancy.detach(), "surrogate": surrogate.detach()})

    def extra_repr(self) -> str:
        """Return weights and bandwidth."""
        return f"{super().extra_repr()}, bandwidth={self.bandwidth}"


def _score(z: Tensor, p_z: Distribution) -> Tensor:
    """Return ``grad log p(z)`` of codes ``[..., *D]``, the same shape, without gradient."""
    z = z.detach()
    if isinstance(p_z, DiagonalNormal):
        return ((p_z.mean - z) / p_z.variance).detach()
    with torch.enable_grad():
        z.requires_grad_()
        (score,) = torch.autograd.grad(p_z.log_prob(z).sum(), [z])
    return score


class SteinConfig(DivergenceConfig):
    """Stein variational gradient of codes towards the prior: Zhao et al. (2017), section 4.1.2,
    https://arxiv.org/abs/1706.02262v1.
    """

    type: Literal["infovae.stein"] = "infovae.stein"
    weight: PositiveFloat = Field(10.0, description="lambda; the paper does not state it")
    bandwidth: SteinBandwidth | PositiveFloat = Field(
        "median",
        description="h of exp(-r²/h): median (med²/log N, Liu and Wang, 2016), median_released (their code's), "
        "dimension (K), twice_dimension (2K), or a number",
    )

    def build(self, context: BuildContext) -> Stein:
        """Return the regularizer."""
        return Stein(self.weight, self.bandwidth, self.alpha)
