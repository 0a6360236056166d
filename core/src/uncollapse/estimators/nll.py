"""The negative log-likelihood by importance weighting."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from ..component import BuildContext
from ..errors import ShapeError
from ..kinds import EstimatorConfig
from ..model import LatentVariableModel
from ..passes import batches_on_device, mean_estimate, measuring
from ..protocols import Batch, Estimates
from .draws import Draws
from .memory import Memory

__all__ = ["ImportanceWeightedNLL", "ImportanceWeightedNLLConfig", "importance_weighted_nll"]


def importance_weighted_nll(log_weights: Tensor) -> Tensor:
    """Return ``-log (1/K) sum_k w_k`` for ``log_weights [K, N]``, nats, ``[N]``.

    Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders (2016), eq. 8,
    https://arxiv.org/abs/1509.00519. In expectation an upper bound on ``-log p(x)`` that falls with ``K``; with the
    exact posterior every weight is ``p(x)`` and the bound is tight for any ``K``.

    Raises:
        ShapeError: There is no sample.
    """
    if log_weights.dim() < 1 or len(log_weights) == 0:
        raise ShapeError(f"log_weights: expected [K, N] with K at least 1, found {tuple(log_weights.shape)}")
    return math.log(len(log_weights)) - log_weights.logsumexp(0)


class ImportanceWeightedNLL:
    """Importance-weighted negative log-likelihood: Burda et al. (2016), eq. 8, https://arxiv.org/abs/1509.00519.

    Exactly ``samples`` draws of the posterior per example; their weights are summed in float64. What does not depend on
    the draw is computed once for all draws of an example where the decoder can do so (a gated PixelCNN's vertical stack
    that sees no latent).

    Args:
        samples: Draws per example, ``K``.
        memory: Budget of the decoder's passes, ``"500 MB"`` or ``"1 GiB"`` say; changes no number but for rounding.
        bits_per_dimension: Whether to report the same number in bits per data dimension too.
        examples: Use only the first examples of the set, which evaluation visits in random order; None for all.
    """

    def __init__(
        self,
        samples: int = 500,
        memory: str = "1 GB",
        bits_per_dimension: bool = True,
        examples: int | None = None,
    ) -> None:
        self.samples = samples
        self.memory = memory
        self.bits_per_dimension = bits_per_dimension
        self.examples = examples

    def __call__(self, model: LatentVariableModel, batches: Callable[[], Iterable[Batch]]) -> Estimates:
        """Return ``nll`` in nats and, if asked for, ``bits_per_dimension``."""
        values: list[Tensor] = []
        dimensions, left = 1, math.inf if self.examples is None else self.examples
        with measuring(model):
            draws = Draws(model, self.samples, self.memory)
            for batch in batches_on_device(model, batches):
                dimensions = batch.x[0].numel()
                chosen = batch.x[: int(min(left, len(batch)))]
                left -= len(chosen)
                for x, q in draws.posteriors(chosen):
                    values.append(importance_weighted_nll(draws.log_terms(x, q).log_weights))
                if not left:
                    break
        nll = torch.cat(values)
        note = f"importance weighted, K = {self.samples}"
        found = {"nll": mean_estimate(nll, "nats", note)}
        if self.bits_per_dimension:
            found["bits_per_dimension"] = mean_estimate(nll / (dimensions * math.log(2)), "bits/dim", note)
        return found


class ImportanceWeightedNLLConfig(EstimatorConfig):
    """Importance-weighted negative log-likelihood: Burda et al. (2016), eq. 8, https://arxiv.org/abs/1509.00519."""

    type: Literal["nll"] = "nll"
    samples: PositiveInt = Field(500, description="posterior samples per example, K")
    memory: Memory = Field("1 GB", description="budget of the decoder's passes; changes no number but for rounding")
    examples: PositiveInt | None = Field(None, description="use only so many examples, drawn at random; null for all")

    def build(self, context: BuildContext) -> ImportanceWeightedNLL:
        """Return the estimator; text is not reported in bits per dimension, its length being the data's."""
        return ImportanceWeightedNLL(self.samples, self.memory, context.data.support != "tokens", self.examples)
