"""The plain way to compute everything, to compare with: one tensor of all pairs and dimensions."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor


def all_divergences(mean: Tensor, logvar: Tensor) -> Tensor:
    """``KL_k(q_i || q_j)``, ``[B, B, K]``."""
    mean, logvar = mean.flatten(1), logvar.flatten(1)
    difference = logvar[:, None] - logvar[None]
    distance = (mean[:, None] - mean[None]).square()
    return 0.5 * (difference.exp() - 1 - difference + distance / logvar.exp()[None])


def off_diagonal(per_pair: Tensor) -> Tensor:
    """The ordered pairs of different examples, ``[B (B - 1), ...]``."""
    return per_pair[~torch.eye(len(per_pair), dtype=torch.bool)]


def totals(mean: Tensor, logvar: Tensor) -> Tensor:
    return all_divergences(mean, logvar).sum(-1)


def diverse_paper(mean: Tensor, logvar: Tensor) -> Tensor:
    pairs = off_diagonal(all_divergences(mean, logvar))
    return torch.nn.functional.softplus(-pairs).sum(-1).mean()


def diverse_released(mean: Tensor, logvar: Tensor) -> Tensor:
    pairs = off_diagonal(all_divergences(mean, logvar))
    return torch.nn.functional.softplus(-pairs.mean(0)).sum()


def smooth_std(mean: Tensor, logvar: Tensor) -> Tensor:
    return off_diagonal(totals(mean, logvar)).std(unbiased=True)


def mutual_posterior_divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    return off_diagonal(totals(mean, logvar)).mean()


@pytest.fixture(scope="session")
def brute_force() -> SimpleNamespace:
    names = (
        all_divergences,
        diverse_paper,
        diverse_released,
        mutual_posterior_divergence,
        off_diagonal,
        smooth_std,
        totals,
    )
    return SimpleNamespace(**{f.__name__: f for f in names})


@pytest.fixture
def moments() -> tuple[Tensor, Tensor]:
    """Moments of a batch that is spread out, float64, ``[9, 5]``."""
    return torch.randn(9, 5, dtype=torch.float64), 0.7 * torch.randn(9, 5, dtype=torch.float64) - 1
