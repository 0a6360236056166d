"""Distributions over two levels of latents, laid side by side in one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints
from uncollapse.distributions import DiagonalNormal, rsample_and_log_prob

__all__ = ["TwoLevel", "TwoLevelNormal"]


class TwoLevel(Distribution):
    """``p(z) = p(z2) p(z1|z2)`` over one concatenated ``z = (z1, z2)``: Tomczak and Welling, VAE with a VampPrior
    (2018), section 4, https://arxiv.org/abs/1705.07120, for posterior and prior alike.

    The bottom level ``z1``, the one nearer to the data, comes first: the first ``D1`` numbers of ``z``. The top level
    ``z2`` are the other ``D2``. It has no closed form of mean, entropy or divergence.

    Args:
        top: ``p(z2)``, event ``(D2,)``.
        bottom: ``z2 [..., D2] -> p(z1|z2)``, whose batch is ``[...]`` broadcast against the batch of ``top``.
        bottom_dim: ``D1``.
    """

    arg_constraints = {}  # noqa: RUF012 - torch's own signature
    support = constraints.real_vector

    def __init__(self, top: Distribution, bottom: Callable[[Tensor], DiagonalNormal], bottom_dim: int) -> None:
        self.top = top
        self.bottom = bottom
        self.bottom_dim = bottom_dim
        super().__init__(top.batch_shape, Size((bottom_dim + top.event_shape[0],)), validate_args=False)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether the top level has reparameterized samples; the bottom level always has."""
        return bool(self.top.has_rsample)

    def split(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the levels ``z1 [..., D1]`` and ``z2 [..., D2]`` of ``z [..., D1 + D2]``."""
        return z[..., : self.bottom_dim], z[..., self.bottom_dim :]

    def sample(self, sample_shape: Any = Size()) -> Tensor:
        """Draw ``z [*sample_shape, *batch, D1 + D2]``, the top level first."""
        with torch.no_grad():
            top = self.top.sample(Size(sample_shape))
            return torch.cat([self.bottom(top).sample(), top], -1)

    def rsample(self, sample_shape: Any = Size()) -> Tensor:
        """Draw reparameterized samples ``[*sample_shape, *batch, D1 + D2]``."""
        top = self.top.rsample(Size(sample_shape))
        return torch.cat([self.bottom(top).rsample(), top], -1)

    def rsample_and_log_prob(self, sample_shape: Any = Size()) -> tuple[Tensor, Tensor]:
        """Draw ``z`` and return it with ``log p(z)`` in nats, ``[*sample_shape, *batch]``, nothing computed twice."""
        top, log_top = rsample_and_log_prob(self.top, sample_shape)
        bottom, log_bottom = self.bottom(top).rsample_and_log_prob()
        return torch.cat([bottom, top], -1), log_bottom + log_top

    def log_prob(self, value: Tensor) -> Tensor:
        """Return ``log p(z)`` in nats, ``[...]``, for ``z [..., D1 + D2]``."""
        z1, z2 = self.split(value)
        log_top: Tensor = self.top.log_prob(z2)
        return self.bottom(_once(z2)).log_prob(_once(z1)) + log_top


class TwoLevelNormal(TwoLevel):
    """A :class:`TwoLevel` whose top is a diagonal Gaussian as well: its density has one term for each dimension.

    The terms of the bottom level are conditional, ``log p(z1_d|z2)``.

    Args:
        top: ``p(z2)``.
        bottom: ``z2 [..., D2] -> p(z1|z2)``.
        bottom_dim: ``D1``.
    """

    top: DiagonalNormal

    def __init__(self, top: DiagonalNormal, bottom: Callable[[Tensor], DiagonalNormal], bottom_dim: int) -> None:
        super().__init__(top, bottom, bottom_dim)

    def rsample_and_log_prob_per_dimension(self, shape: Any = Size()) -> tuple[Tensor, Tensor]:
        """Draw ``z`` and return it with the terms of ``log p(z)``, both ``[*shape, *batch, D1 + D2]``."""
        top, log_top = self.top.rsample_and_log_prob_per_dimension(shape)
        bottom, log_bottom = self.bottom(top).rsample_and_log_prob_per_dimension()
        return torch.cat([bottom, top], -1), torch.cat([log_bottom, log_top], -1)

    def log_prob_per_dimension(self, value: Tensor) -> Tensor:
        """Return the terms of ``log p(z)`` in nats, ``[..., D1 + D2]``."""
        z1, z2 = self.split(value)
        log_top = self.top.log_prob_per_dimension(z2)
        log_bottom = self.bottom(_once(z2)).log_prob_per_dimension(_once(z1))
        shape = torch.broadcast_shapes(log_bottom.shape[:-1], log_top.shape[:-1])
        return torch.cat([t.expand(*shape, -1) for t in (log_bottom, log_top)], -1)


def _once(t: Tensor) -> Tensor:
    # Pairs of all samples with all posteriors come expanded; a network that reads the samples need not see the same
    # one once for every posterior.
    for dim, (size, stride) in enumerate(zip(t.shape[:-1], t.stride(), strict=False)):
        if size > 1 and stride == 0:
            t = t.narrow(dim, 0, 1)
    return t
