"""Does a density in the plane integrate to one, and is it the density of its samples?"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution

from .report import expect

__all__ = ["Density", "expect_unit_mass", "first_of"]


class Density(Protocol):
    """What a density must offer to be integrated."""

    def sample(self, sample_shape: Any) -> Tensor:
        """Draw ``[*sample_shape, D]``."""
        ...

    def log_prob(self, value: Tensor) -> Tensor:
        """Return nats ``[...]`` for ``value [..., D]``."""
        ...


class _FirstOfBatch:
    """The first of a batch of distributions."""

    def __init__(self, q: Distribution) -> None:
        self.q = q

    def sample(self, sample_shape: Any) -> Tensor:
        return self.q.sample(sample_shape)[:, 0]

    def log_prob(self, value: Tensor) -> Tensor:
        return self.q.log_prob(value[:, None])[:, 0]


def first_of(q: Distribution) -> Density:
    """Return the first of a batch of distributions as one without a batch."""
    return _FirstOfBatch(q)


def expect_unit_mass(p: Density, what: str) -> None:
    """Raise unless a two-dimensional density integrates to one, and its samples have the entropy of the density.

    The grid follows the samples, so a sampler that misses part of the mass is found too.
    """
    draws = 4000
    with torch.no_grad():
        z = p.sample((draws,)).reshape(draws, 2)
        low, high = z.min(0).values, z.max(0).values
        margin = (high - low) / 2
        steps = 400
        axes = [
            torch.linspace(float(a), float(b), steps, dtype=z.dtype)
            for a, b in zip(low - margin, high + margin, strict=True)
        ]
        cell = float((axes[0][1] - axes[0][0]) * (axes[1][1] - axes[1][0]))
        grid = torch.cartesian_prod(*axes)
        log_density = p.log_prob(grid)
        total = float(log_density.exp().sum() * cell)
        expect(abs(total - 1) < 0.02, f"{what}: expected a density that integrates to 1, found {total:.4f}")
        entropy = -float((log_density.exp() * log_density.clamp(min=-1e4)).sum() * cell)
        own = -p.log_prob(z)
        allowed = 5 * float(own.std()) / draws**0.5 + 0.02
        found = float(own.mean())
        expect(
            abs(found - entropy) < allowed,
            f"{what}: the density has entropy {entropy:.3f} nats, its samples {found:.3f} (allowed: {allowed:.3f})",
        )
