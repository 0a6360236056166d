"""The mutual posterior divergence: how far the posteriors of different examples lie apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from uncollapse.config import BuildContext, EstimatorConfig
from uncollapse.distributions import gaussian_base
from uncollapse.errors import ConfigError, ShapeError
from uncollapse.estimators import PAIRS_AT_ONCE
from uncollapse.model import LatentVariableModel
from uncollapse.passes import AT_END, as_float64, batches_on_device, exact_gaussian, measuring
from uncollapse.protocols import Batch, Estimate, Estimates

__all__ = ["MutualPosteriorDivergence", "MutualPosteriorDivergenceConfig", "PairStatistics", "pair_statistics"]


@dataclass(frozen=True)
class PairStatistics:
    """Divergences ``KL(q_i || q_j)`` over ordered pairs of distinct examples, nats.

    Args:
        mean: Their mean.
        std: Their standard deviation, with n-1 over the ``N(N-1)`` pairs.
        per_dimension: Mean per latent dimension ``[D]``.
        example_means: Mean over the pairs that an example is in ``[N]``.
        example_squares: Mean squared distance from ``mean`` over the pairs that an example is in ``[N]``.
    """

    mean: float
    std: float
    per_dimension: Tensor
    example_means: Tensor
    example_squares: Tensor


def pair_statistics(mean: Tensor, logvar: Tensor, pairs_at_once: int = PAIRS_AT_ONCE) -> PairStatistics:
    """Return the statistics of all pairs of diagonal Gaussians ``[N, D]``, in float64 and bounded memory.

    Ma, Zhou and Hovy, MAE (2019), eq. 4 (mean) and eq. 6 (standard deviation of the totals over pairs),
    https://arxiv.org/abs/1901.01498. The mean comes from sums over examples, the rest from the pairs, some rows at a
    time. The zero divergence of an example from itself counts nowhere.

    Raises:
        ShapeError: There are fewer than two examples.
    """
    if mean.dim() != 2 or mean.shape != logvar.shape or len(mean) < 2:
        raise ShapeError(
            "expected mean and logvar [N, D] with N at least 2, found "
            f"{tuple(mean.shape)} and {tuple(logvar.shape)}"
        )  # fmt: skip
    mean, logvar = as_float64(mean), as_float64(logvar)
    count = len(mean)
    pairs = count * (count - 1)
    mean = mean - mean.mean(0)
    centre = logvar.mean(0)
    # var_i / var_j - 1 = a_i + b_j + a_i b_j: centred and without the 1, so nothing cancels when all are alike.
    a, b = (logvar - centre).expm1(), (centre - logvar).expm1()
    precision = (-logvar).exp()
    a_sum, b_sum = a.sum(0), b.sum(0)
    ratios = count * (a_sum + b_sum) + a_sum * b_sum
    distances = ((count * mean.square() + mean.square().sum(0) - 2 * mean * mean.sum(0)) * precision).sum(0)
    per_dimension = 0.5 * (ratios + distances) / pairs
    average = per_dimension.sum()

    left = torch.cat([a, mean.square(), mean], 1)
    right = torch.cat([b, precision, -2 * mean * precision], 1).T
    row = (a - (logvar - centre)).sum(1, keepdim=True)
    column = (b + (logvar - centre) + mean.square() * precision).sum(1)
    sums, squares = torch.zeros_like(column), torch.zeros_like(column)
    every = torch.arange(count, device=mean.device)
    for rows in torch.split(every, max(1, pairs_at_once // count)):
        kl = 0.5 * (torch.addmm(column, left[rows], right) + row[rows])
        own = (torch.arange(len(rows), device=mean.device), rows)
        for values, target in ((kl, sums), ((kl - average).square(), squares)):
            values[own] = 0.0
            target[rows] += values.sum(1)
            target += values.sum(0)
    both = 2 * (count - 1)
    return PairStatistics(
        mean=average.item(),
        std=math.sqrt(squares.sum().item() / 2 / (pairs - 1)),
        per_dimension=per_dimension,
        example_means=sums / both,
        example_squares=squares / both,
    )


class MutualPosteriorDivergence:
    """Mean and standard deviation of ``KL(q(z|x_i) || q(z|x_j))`` over pairs of different examples, nats.

    Ma et al. (2019), eq. 4 and 6, https://arxiv.org/abs/1901.01498. The released evaluation averages the values of
    minibatches of 512, which leaves the mean's expectation as it is and makes the deviation that inside a minibatch.
    Standard errors are those of averages over pairs, in which every example stands in many (Hoeffding 1948).

    Args:
        per_batch: Size of the groups of consecutive examples that pairs are made in; None for the whole set.
        pairs_at_once: Pairs held at once; bounds memory.
    """

    def __init__(self, per_batch: int | None = 512, pairs_at_once: int = PAIRS_AT_ONCE) -> None:
        self.per_batch = per_batch
        self.pairs_at_once = pairs_at_once

    def __call__(self, model: LatentVariableModel, batches: Callable[[], Iterable[Batch]]) -> Estimates:
        """Return ``mutual_posterior_divergence`` and ``mutual_posterior_divergence_std`` in nats.

        Raises:
            ConfigError: The posterior has no diagonal Gaussian under it.
            ShapeError: The set has fewer than two examples.
        """
        moments: list[tuple[Tensor, Tensor]] = []
        flow = ""
        with measuring(model):
            for batch in batches_on_device(model, batches):
                q = model.infer(batch.x, AT_END)
                base = gaussian_base(q)
                if base is None:
                    raise ConfigError(
                        f"mutual_posterior_divergence: the posterior is {type(q).__name__}, and pairwise divergences "
                        "are known for diagonal Gaussians and flows over them; leave this estimator out"
                    )
                if exact_gaussian(q) is None:
                    flow = "; of the Gaussians under the flow, which is that of the posteriors if all share one flow"
                moments.append((as_float64(base.mean).flatten(1), as_float64(base.logvar).flatten(1)))
        mean, logvar = (torch.cat(m) for m in zip(*moments, strict=True))
        size = self.per_batch or len(mean)
        groups = [pair_statistics(m, v, self.pairs_at_once) for m, v in _groups(mean, logvar, size)]
        return self._estimates(groups, flow)

    def _estimates(self, groups: list[PairStatistics], flow: str) -> Estimates:
        sizes = torch.tensor([len(g.example_means) for g in groups], dtype=torch.float64)
        share = sizes / sizes.sum()
        count = int(sizes.sum())
        value = sum(g.mean * w for g, w in zip(groups, share.tolist(), strict=True))
        std = sum(g.std * w for g, w in zip(groups, share.tolist(), strict=True))
        each = torch.stack([g.per_dimension.cpu() for g in groups])
        # An average over pairs moves by twice the part that one example contributes.
        error = 2 * torch.cat([g.example_means for g in groups]).std().item() / math.sqrt(count)
        squares = torch.cat([g.example_squares for g in groups]).std().item() / math.sqrt(count)
        where = "all pairs" if self.per_batch is None else f"pairs inside groups of {self.per_batch}"
        return {
            "mutual_posterior_divergence": Estimate(
                value, "nats", error, count, tuple((share[:, None] * each).sum(0).tolist()), where + flow
            ),
            "mutual_posterior_divergence_std": Estimate(
                std, "nats", squares / std if std > 0 else None, count, None, where + flow
            ),
        }


def _groups(mean: Tensor, logvar: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    groups = list(zip(torch.split(mean, size), torch.split(logvar, size), strict=True))
    # One left-over example makes no pair.
    return groups[:-1] if len(groups) > 1 and len(groups[-1][0]) < 2 else groups


class MutualPosteriorDivergenceConfig(EstimatorConfig):
    """Mutual posterior divergence and its standard deviation: Ma et al. (2019), eq. 4 and 6,
    https://arxiv.org/abs/1901.01498.
    """

    type: Literal["mutual_posterior_divergence"] = "mutual_posterior_divergence"
    per_batch: int | None = Field(
        512, ge=2, description="examples that pairs are made among, as in the released evaluation; null for all pairs"
    )

    def build(self, context: BuildContext) -> MutualPosteriorDivergence:
        """Return the estimator."""
        return MutualPosteriorDivergence(self.per_batch)
