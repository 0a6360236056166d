"""Estimators of how well the aggregate posterior matches the prior."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor
from uncollapse.config import BuildContext, EstimatorConfig
from uncollapse.errors import ShapeError
from uncollapse.model import LatentVariableModel
from uncollapse.passes import as_float64, batches_on_device, measuring
from uncollapse.protocols import Batch, Estimate, Estimates, Progress

from .functional import PAIRS_AT_ONCE, Statistic, mmd_with_error
from .kernels import Kernel, KernelFields

__all__ = ["LogDeterminant", "LogDeterminantConfig", "MMDEstimator", "MMDEstimatorConfig"]

_AT_END = Progress.at_end()


def _codes(model: LatentVariableModel, batches: Callable[[], Iterable[Batch]]) -> Iterator[Tensor]:
    """Yield one sample of every example's posterior, float64, ``[b, K]``."""
    for batch in batches_on_device(model, batches):
        yield as_float64(model.infer(batch.x, _AT_END).sample()).flatten(1)


class MMDEstimator:
    """Squared MMD between codes of the whole set and the prior: Zhao et al., InfoVAE (2017), section 4.2.1, item 1,
    https://arxiv.org/abs/1706.02262v1.

    ``E k(z, z') - 2 E k(z, p) + E k(p, p')`` for codes ``z``, ``z'`` and draws ``p``, ``p'`` of the prior. One sample
    of every example's posterior, in float64 and bounded memory. See
    :func:`~uncollapse_infovae.functional.mmd_with_error` for the standard error.

    Args:
        kernel: The kernel; by default the released one.
        statistic: ``v``, as released, or ``u``, unbiased.
        prior_samples: Draws of the prior; None for as many as there are examples.
        pairs_at_once: Pairs held at once; bounds memory.
    """

    def __init__(
        self,
        kernel: Kernel | None = None,
        statistic: Statistic = "v",
        prior_samples: int | None = None,
        pairs_at_once: int = PAIRS_AT_ONCE,
    ) -> None:
        self.kernel = Kernel() if kernel is None else kernel
        self.statistic, self.prior_samples, self.pairs_at_once = statistic, prior_samples, pairs_at_once

    def __call__(self, model: LatentVariableModel, batches: Callable[[], Iterable[Batch]]) -> Estimates:
        """Return ``mmd``, the squared discrepancy.

        Raises:
            ShapeError: The set has fewer than two examples.
        """
        with measuring(model):
            z = torch.cat(list(_codes(model, batches)))
            count = len(z) if self.prior_samples is None else self.prior_samples
            prior = as_float64(model.p_z().sample(torch.Size((count,)))).flatten(1)
            kernel = self.kernel.on(z, prior)
            value, error = mmd_with_error(z, prior, kernel, self.statistic, self.pairs_at_once)
        note = (
            f"{self.statistic.upper()}-statistic of {len(z)} codes and {count} draws of the prior; "
            f"{self.kernel.family} kernel, h = {float(self.kernel.resolve(z, prior)):.4g}"
        )
        if self.kernel.scales != (1.0,):
            note += f" times {', '.join(f'{s:g}' for s in self.kernel.scales)}"
        return {"mmd": Estimate(value, "MMD²", error, len(z), note=note)}


class LogDeterminant:
    """``log det`` of the covariance of the codes, over their dimension: Zhao et al., InfoVAE (2017), section 4.2.1,
    item 1, https://arxiv.org/abs/1706.02262v1.

    Codes are samples of the posteriors, the covariance has N-1. 0 where a standard Gaussian prior is matched,
    negative where the aggregate posterior is too narrow. The standard error is that of the delta method: an example
    moves the determinant by the squared Mahalanobis distance of its code; a second pass over the set, with codes
    drawn anew, gives these.
    """

    def __call__(self, model: LatentVariableModel, batches: Callable[[], Iterable[Batch]]) -> Estimates:
        """Return ``log_determinant``, in nats per dimension; the variances of the codes are its ``per_dimension``.

        Raises:
            ShapeError: The set has fewer than two examples.
        """
        with measuring(model):
            count, mean, covariance = _moments(_codes(model, batches))
            size = len(mean)
            determinant = torch.linalg.slogdet(covariance).logabsdet / size
            error = None
            if bool(determinant.isfinite()):
                inverse = torch.linalg.inv(covariance)
                centred = (z - mean for z in _codes(model, batches))
                distances = torch.cat([((z @ inverse) * z).sum(1) for z in centred])
                error = distances.std().item() / math.sqrt(count) / size
        return {
            "log_determinant": Estimate(
                determinant.item(), "nats/dim", error, count, tuple(covariance.diagonal().tolist()),
                note="log det of the covariance of code samples over the dimension; per dimension: their variances",
            )
        }  # fmt: skip


def _moments(parts: Iterable[Tensor]) -> tuple[int, Tensor, Tensor]:
    """Return how many rows there are, their mean ``[K]`` and covariance ``[K, K]`` with N-1, from batches of rows."""
    count, centre = 0, torch.empty(0)
    total = scatter = torch.empty(0)
    for z in parts:
        if not count:
            # Sums around a point among the rows lose nothing where these lie far from the origin.
            centre = z.mean(0)
            total, scatter = torch.zeros_like(centre), z.new_zeros(len(centre), len(centre))
        moved = z - centre
        count, total, scatter = count + len(z), total + moved.sum(0), scatter + moved.T @ moved
    if count < 2:
        raise ShapeError(f"infovae.log_determinant: a covariance needs at least 2 examples, found {count}")
    offset = total / count
    return count, centre + offset, (scatter - count * torch.outer(offset, offset)) / (count - 1)


class MMDEstimatorConfig(KernelFields, EstimatorConfig):
    """Squared MMD of codes and prior over a whole set: Zhao et al. (2017), section 4.2.1,
    https://arxiv.org/abs/1706.02262v1.
    """

    type: Literal["infovae.mmd"] = "infovae.mmd"
    statistic: Statistic = Field("v", description="v: all pairs, as released; u: unbiased, may be negative")
    prior_samples: PositiveInt | None = Field(
        None, ge=2, description="draws of the prior; null: as many as there are examples"
    )

    def build(self, context: BuildContext) -> MMDEstimator:
        """Return the estimator."""
        return MMDEstimator(self.build_kernel(), self.statistic, self.prior_samples)


class LogDeterminantConfig(EstimatorConfig):
    """Log-determinant of the codes' covariance per dimension: Zhao et al. (2017), section 4.2.1,
    https://arxiv.org/abs/1706.02262v1.
    """

    type: Literal["infovae.log_determinant"] = "infovae.log_determinant"

    def build(self, context: BuildContext) -> LogDeterminant:
        """Return the estimator."""
        return LogDeterminant()
