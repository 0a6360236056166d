"""Models whose true values are known, and batches of a fixed set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from uncollapse import Batch, DiagonalNormal, LatentVariableModel, Progress
from uncollapse.distributions import standard_normal


class Flatten(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


class AffinePosterior(nn.Module):
    """``q(z|x) = N(A h + c, exp(logvar))``."""

    def __init__(self, a: Tensor, c: Tensor, logvar: Tensor) -> None:
        super().__init__()
        self.a, self.c, self.logvar = (nn.Parameter(t) for t in (a, c, logvar))
        self.latent_shape = (len(c),)

    def forward(self, h: Tensor, progress: Progress | None = None) -> DiagonalNormal:
        mean = h @ self.a.T + self.c
        return DiagonalNormal(mean, self.logvar.expand_as(mean))


class StandardPrior(nn.Module):
    def __init__(self, d: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.d, self.dtype = d, dtype

    def forward(self) -> DiagonalNormal:
        zeros = torch.zeros(self.d, dtype=self.dtype)
        return DiagonalNormal(zeros, zeros)


class LinearDecoder(nn.Module):
    """``p(x|z) = N(W z + b, sigma^2)``, which writes down how many latents each call brought."""

    def __init__(self, w: Tensor, b: Tensor, sigma: float) -> None:
        super().__init__()
        self.w, self.b, self.logvar = nn.Parameter(w), nn.Parameter(b), 2 * torch.tensor(sigma, dtype=w.dtype).log()
        self.event_shape: tuple[int, ...] = (len(b),)
        self.calls: list[int] = []

    def forward(self, z: Tensor) -> DiagonalNormal:
        self.calls.append(z.shape[:-1].numel())
        mean = (z @ self.w.T + self.b).unflatten(-1, self.event_shape)
        return DiagonalNormal(mean, self.logvar.expand_as(mean), len(self.event_shape))


@pytest.fixture
def linear_gaussian() -> Callable[..., LatentVariableModel]:
    """Build ``p(z) = N(0, I), p(x|z) = N(Wz + b, sigma^2)`` with the exact posterior mean.

    The posterior's log-variance is the one given; by default the diagonal of the precision matrix, negated in its
    logarithm, which for an orthogonal ``W`` is exact.
    """

    def build(w: Tensor, b: Tensor, sigma: float, logvar: Tensor | None = None) -> LatentVariableModel:
        precision = torch.eye(w.shape[1]).to(w) + w.T @ w / sigma**2
        a = torch.linalg.solve(precision, w.T) / sigma**2
        logvar = -precision.diagonal().log() if logvar is None else logvar
        posterior = AffinePosterior(a, -a @ b, logvar)
        return LatentVariableModel(Flatten(), posterior, StandardPrior(w.shape[1], w.dtype), LinearDecoder(w, b, sigma))

    return build


@pytest.fixture
def linear_gaussian_case(
    oracle: Callable[[str], Any], linear_gaussian: Callable[..., LatentVariableModel]
) -> tuple[LatentVariableModel, Tensor, Any]:
    """Return a linear Gaussian model, data, and reference numbers for its posterior, which is not the exact one."""
    reference = oracle("iw_linear_gaussian")
    inputs, expected = reference["inputs"]["general_diag_q"], reference["expected"]["general_diag_q"]
    w, b, x = (torch.as_tensor(inputs[k]) for k in ("W", "b", "x"))
    return linear_gaussian(w, b, float(inputs["sigma"]), torch.as_tensor(inputs["q_logvar"][0])), x, expected


@pytest.fixture
def batches_of() -> Callable[..., Callable[[], Iterator[Batch]]]:
    """Cut ``x [N, *X]`` into batches; the last may be short."""

    def make(x: Tensor, size: int) -> Callable[[], Iterator[Batch]]:
        return lambda: iter([Batch(part) for part in x.split(size)])

    return make


class Fixed(nn.Module):
    """A posterior read off a table: ``x`` is the index of the example."""

    def __init__(self, make: Callable[[Tensor], Distribution], latent_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.make, self.latent_shape = make, latent_shape

    def forward(self, h: Tensor, progress: Progress | None = None) -> Distribution:
        return self.make(h[:, 0].long())


@pytest.fixture
def with_posterior() -> Callable[..., LatentVariableModel]:
    """Build a model whose posterior is ``make(indices)``, for ``x = arange(N)[:, None]``."""

    def build(
        make: Callable[[Tensor], Distribution], latent_shape: tuple[int, ...], **parts: Any
    ) -> LatentVariableModel:
        prior = parts.get("prior") or _Constant(standard_normal(latent_shape))
        decoder = parts.get("decoder") or _Unused()
        return LatentVariableModel(Flatten(), Fixed(make, latent_shape), prior, decoder)

    return build


class _Constant(nn.Module):
    def __init__(self, distribution: Distribution) -> None:
        super().__init__()
        self.distribution = distribution

    def forward(self) -> Distribution:
        return self.distribution


class _Unused(nn.Module):
    def forward(self, z: Tensor) -> Distribution:
        raise RuntimeError("this estimator has no business with the decoder")
