"""Kernels by name, with bandwidths that are stated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from pydantic import BaseModel, Field, PositiveFloat
from torch import Tensor
from uncollapse.errors import ConfigError

from .functional import KernelFunction, inverse_multiquadratic, rbf, squared_distances

__all__ = ["Bandwidth", "Family", "Kernel", "KernelFields", "SteinBandwidth", "stein_bandwidth"]

Family = Literal["rbf", "inverse_multiquadratic"]
Bandwidth = Literal["released", "dimension", "twice_dimension", "median"]
SteinBandwidth = Literal["median", "median_released", "dimension", "twice_dimension"]

_POINTS_FOR_MEDIAN = 1000


@dataclass(frozen=True)
class Kernel:
    """A kernel of squared distances, 1 at distance 0, with a bandwidth ``h`` that may depend on the points.

    =================== ================================================================================================
    bandwidth           ``h``
    =================== ================================================================================================
    ``released``        ``K²``: both released scripts of Zhao et al. (2017) take the mean over the ``K`` dimensions and
                        divide it by ``K`` once more, so that ``2 sigma² = K²``. Nearly flat where ``K`` is large
    ``dimension``       ``K``, which one division would give
    ``twice_dimension`` ``2 K``, the expected squared distance of two draws of a standard Gaussian: the scale of
                        Tolstikhin et al., Wasserstein Auto-Encoders (2018), section 4, https://arxiv.org/abs/1711.01558
    ``median``          ``2 sigma²`` with ``sigma`` the median distance between different points of codes and prior
                        together: Gretton et al., A Kernel Two-Sample Test (2012), section 8,
                        https://jmlr.org/papers/v13/gretton12a.html; from at most 1,000 points of each; without gradient
    a number            that number
    =================== ================================================================================================

    Args:
        family: ``rbf``, ``exp(-r²/h)``, or ``inverse_multiquadratic``, ``h / (h + r²)``.
        bandwidth: See the table.
        scales: Factors on ``h``; the kernel is the mean over them. Several make it multi-scale, sensitive both to
            close and to far points: Li, Swersky and Zemel, Generative Moment Matching Networks (2015), section 4,
            https://arxiv.org/abs/1502.02761.

    Raises:
        ConfigError: A name is unknown, or a number is not positive.
    """

    family: Family = "rbf"
    bandwidth: Bandwidth | float = "released"
    scales: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if self.family not in get_args(Family):
            raise ConfigError(f"kernel: expected one of {', '.join(get_args(Family))}, found {self.family!r}")
        _require_bandwidth(self.bandwidth, get_args(Bandwidth))
        if not self.scales or min(self.scales) <= 0:
            raise ConfigError(f"scales: expected positive factors on the bandwidth, found {list(self.scales)}")

    def on(self, z: Tensor, prior: Tensor) -> KernelFunction:
        """Return the kernel for codes ``[..., N, K]`` and draws of the prior ``[..., M, K]``."""
        h = self.resolve(z, prior)
        base = rbf if self.family == "rbf" else inverse_multiquadratic

        def kernel(squared_distance: Tensor) -> Tensor:
            values = [base(squared_distance, h * scale) for scale in self.scales]
            return values[0] if len(values) == 1 else torch.stack(values).mean(0)

        return kernel

    def resolve(self, z: Tensor, prior: Tensor) -> float | Tensor:
        """Return ``h`` for these points; a scalar tensor for ``median``."""
        if self.bandwidth == "median":
            both = torch.cat([_some(z), _some(prior)])
            return 2 * _median_distance(both).square()
        return _of_dimension(self.bandwidth, z.shape[-1])


def stein_bandwidth(z: Tensor, bandwidth: SteinBandwidth | float = "median") -> float | Tensor:
    """Return ``h`` of ``exp(-r²/h)`` for the Stein direction of codes ``[N, K]``, without gradient.

    Zhao et al. (2017) state neither kernel nor bandwidth. ``median`` is ``med² / log N`` with ``med`` the median
    distance between different codes: Liu and Wang, Stein Variational Gradient Descent (2016), section 5,
    https://arxiv.org/abs/1608.04471, so that a code's ``N`` pairs weigh about as much as itself.
    ``median_released`` is their code's: the median of all squared distances, a code with itself included, over
    ``log(N + 1)``. ``dimension`` is ``K``, ``twice_dimension`` ``2 K``, a number itself.
    """
    if bandwidth == "median":
        count = len(z)
        return _median_distance(z).square() / math.log(count) if count > 1 else 1.0
    if bandwidth == "median_released":
        squared = squared_distances(z.detach(), z.detach()).fill_diagonal_(0)
        return _nonzero(_median(squared.flatten()) / math.log(len(z) + 1))
    return _of_dimension(bandwidth, z.shape[-1])


def _of_dimension(bandwidth: str | float, size: int) -> float:
    named = {"released": size**2, "dimension": size, "twice_dimension": 2 * size}
    return float(named[bandwidth] if isinstance(bandwidth, str) else bandwidth)


def _require_bandwidth(bandwidth: str | float, names: tuple[str, ...]) -> None:
    if bandwidth not in names if isinstance(bandwidth, str) else not bandwidth > 0:
        raise ConfigError(f"bandwidth: expected a positive number or one of {', '.join(names)}, found {bandwidth!r}")


def _some(points: Tensor) -> Tensor:
    """Return at most so many of the points ``[..., N, K]`` that all their pairs are few, as rows."""
    rows = points.detach().reshape(-1, points.shape[-1])
    return rows[:: -(-len(rows) // _POINTS_FOR_MEDIAN)]


def _median_distance(points: Tensor) -> Tensor:
    return _nonzero(_median(torch.pdist(points.detach())))


def _median(values: Tensor) -> Tensor:
    # torch.median takes the lower of the two in the middle, and torch.quantile no more than 16 million values.
    ordered = values.sort().values
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def _nonzero(t: Tensor) -> Tensor:
    # Codes that all agree have no scale of their own; any bandwidth gives them the same kernel.
    return torch.where(t > 0, t, 1.0)


class KernelFields(BaseModel):
    """The fields by which a config states its kernel: :class:`Kernel`."""

    kernel: Family = Field("rbf", description="rbf: exp(-r²/h); inverse_multiquadratic: h / (h + r²)")
    bandwidth: Bandwidth | PositiveFloat = Field(
        "released",
        description="h: released (K², as the released scripts have it), dimension (K), twice_dimension (2K), median "
        "(2 med², the median distance between points), or a number",
    )
    scales: tuple[PositiveFloat, ...] = Field(
        (1.0,), min_length=1, description="factors on h; several make a multi-scale kernel, the mean over them"
    )

    def build_kernel(self) -> Kernel:
        """Return the kernel."""
        return Kernel(self.kernel, self.bandwidth, self.scales)
