"""A model whose every expectation is known: linear and Gaussian in one dimension, float64."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from uncollapse.distributions import DiagonalNormal
from uncollapse.model import LatentVariableModel

NODES = 6
"""Gauss-Hermite nodes: exact for polynomials far beyond the quadratic log densities of Gaussians."""


class Encoder(nn.Module):
    feature_shape = (1,)

    def forward(self, x: Tensor) -> Tensor:
        return x


class LinearPosterior(nn.Module):
    latent_shape = (1,)

    def __init__(self, slope: float, variance: float) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope, dtype=torch.float64))
        self.logvar = nn.Parameter(torch.tensor(math.log(variance), dtype=torch.float64))

    def forward(self, h: Tensor, progress: object = None) -> DiagonalNormal:
        mean = self.slope * h
        return DiagonalNormal(mean, self.logvar.expand_as(mean))


class Prior(nn.Module):
    def forward(self) -> DiagonalNormal:
        zeros = torch.zeros(1, dtype=torch.float64)
        return DiagonalNormal(zeros, zeros)


class LinearDecoder(nn.Module):
    def __init__(self, slope: float, variance: float) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope, dtype=torch.float64))
        self.logvar = nn.Parameter(torch.tensor(math.log(variance), dtype=torch.float64))

    def forward(self, z: Tensor) -> DiagonalNormal:
        mean = self.slope * z
        return DiagonalNormal(mean, self.logvar.expand_as(mean))


@dataclass
class LinearGaussian:
    """``p(z) = N(0, 1)``, ``p(x|z) = N(a z, s2)``, and an encoder ``q(z|x) = N(b x, v)``, exact by default."""

    a: float = 1.3
    s2: float = 0.4

    @property
    def x_variance(self) -> float:
        return self.a**2 + self.s2

    @property
    def joint_entropy(self) -> float:
        return 0.5 * math.log(self.s2) + math.log(2 * math.pi) + 1

    def model(self, slope: float | None = None, variance: float | None = None) -> LatentVariableModel:
        b = self.a / self.x_variance if slope is None else slope
        v = self.s2 / self.x_variance if variance is None else variance
        return LatentVariableModel(Encoder(), LinearPosterior(b, v), Prior(), LinearDecoder(self.a, self.s2))

    def data(self, count: int) -> Tensor:
        return math.sqrt(self.x_variance) * torch.randn(count, 1, dtype=torch.float64)


def quadrature(dimensions: int) -> tuple[Tensor, Tensor]:
    """Return nodes ``[N, dimensions]`` and weights ``[N]`` of a standard normal."""
    points, weights = np.polynomial.hermite_e.hermegauss(NODES)
    weights = weights / weights.sum()
    grids = np.meshgrid(*[points] * dimensions, indexing="ij")
    each = np.meshgrid(*[weights] * dimensions, indexing="ij")
    nodes = torch.from_numpy(np.stack([g.ravel() for g in grids], 1))
    return nodes, torch.from_numpy(np.prod([e.ravel() for e in each], axis=0))


@pytest.fixture
def linear() -> LinearGaussian:
    return LinearGaussian()


@pytest.fixture
def standard_nodes() -> Any:
    return quadrature
