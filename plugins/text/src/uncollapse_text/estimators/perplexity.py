"""Perplexity of texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor
from uncollapse.config import BuildContext, EstimatorConfig
from uncollapse.distributions import analytic_kl
from uncollapse.errors import ConfigError, ShapeError
from uncollapse.estimators import Draws, LogTerms, Memory, importance_weighted_nll
from uncollapse.model import LatentVariableModel
from uncollapse.passes import as_float64, batches_on_device, mean_estimate, measuring
from uncollapse.protocols import Batch, Estimate, Estimates, SpecialTokens

__all__ = ["Perplexity", "PerplexityConfig", "perplexity"]


def perplexity(nats: Tensor, tokens: Tensor, note: str = "") -> Estimate:
    """Return ``exp(sum_i nats_i / sum_i tokens_i)`` of texts ``[N]``, as Bowman et al., Generating Sentences from a
    Continuous Space (2016), https://arxiv.org/abs/1511.06349, and He et al., Lagging Inference Networks (2019),
    https://arxiv.org/abs/1901.05534, report it.

    The exponent ``R`` is a ratio of two means; its standard error is that of a ratio estimator to first order,
    ``sqrt(sum_i (nats_i - R tokens_i)^2 / (N (N - 1))) / mean(tokens)`` (Cochran, Sampling Techniques, 1977, section
    6.4), and that of the perplexity ``exp(R)`` times as large (the delta method). Long texts count for more than short
    ones, in both.

    Args:
        nats: Negative log-likelihood of each text, float64.
        tokens: Tokens of each text, its end included.
        note: What limits the number.

    Raises:
        ShapeError: There is no text, or ``nats`` and ``tokens`` do not belong together.
    """
    if nats.dim() != 1 or nats.shape != tokens.shape or len(nats) == 0:
        raise ShapeError(f"expected nats and tokens [N], found {tuple(nats.shape)} and {tuple(tokens.shape)}")
    tokens = tokens.to(nats)
    count, per_token = len(nats), nats.sum() / tokens.sum()
    value = per_token.exp().item()
    error = None
    if count > 1:
        spread = (nats - per_token * tokens).square().sum() / (count * (count - 1))
        error = value * (spread.sqrt() / tokens.mean()).item()
    return Estimate(value, "perplexity", error, count, note=note)


class Perplexity:
    """Perplexity from the importance-weighted likelihood and from the evidence lower bound: He et al., Lagging
    Inference Networks (2019), section 5, https://arxiv.org/abs/1901.05534.

    ``exp(sum_i nats_i / sum_i tokens_i)``. A text's tokens are those that are not padding: its end counts, the start,
    which no data hold, does not. The bound's distortion is the mean over the same draws, its rate analytic where it is
    known.

    Args:
        special: Which ids are special; None where every token counts.
        samples: Draws of the posterior per text, ``K``.
        memory: Budget of the decoder's passes, ``"500 MB"`` or ``"1 GiB"`` say; changes no number but for rounding.
    """

    def __init__(self, special: SpecialTokens | None, samples: int = 500, memory: str = "1 GB") -> None:
        self.special = special
        self.samples = samples
        self.memory = memory

    def __call__(self, model: LatentVariableModel, batches: Callable[[], Iterable[Batch]]) -> Estimates:
        """Return ``perplexity`` and ``perplexity_elbo``, ``nll`` in nats per text, and ``tokens_per_text``."""
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        with measuring(model):
            p_z, draws = model.p_z(), Draws(model, self.samples, self.memory)
            for batch in batches_on_device(model, batches):
                for x, q in draws.posteriors(batch.x):
                    found.append(self._measured(x, analytic_kl(q, p_z), draws.log_terms(x, q)))
        nll, bound, tokens = (torch.cat(parts) for parts in zip(*found, strict=True))
        counted = f"{int(tokens.sum()):,} tokens" + ("" if self.special is None else ", ends of texts counted")
        weighted = f"importance weighted, K = {self.samples}"
        return {
            "perplexity": perplexity(nll, tokens, f"{weighted}; {counted}"),
            "perplexity_elbo": perplexity(bound, tokens, f"from the evidence lower bound; {counted}"),
            "nll": mean_estimate(nll, "nats", weighted),
            "tokens_per_text": mean_estimate(tokens, "tokens", counted),
        }

    def _measured(self, x: Tensor, known: Tensor | None, terms: LogTerms) -> tuple[Tensor, Tensor, Tensor]:
        """Return both kinds of nats and the number of tokens of texts ``x [b, T]``, ``[b]`` each, float64."""
        rate = (terms.log_q - terms.log_p_z).mean(0) if known is None else as_float64(known)
        counted = torch.ones_like(x) if self.special is None else x != self.special.padding
        return importance_weighted_nll(terms.log_weights), rate - terms.log_p_x.mean(0), as_float64(counted.sum(1))


class PerplexityConfig(EstimatorConfig):
    """Perplexity of texts from the importance-weighted likelihood and from the evidence lower bound: He et al., Lagging
    Inference Networks (2019), section 5, https://arxiv.org/abs/1901.05534.
    """

    type: Literal["perplexity"] = "perplexity"
    samples: PositiveInt = Field(500, description="posterior samples per text, K")
    memory: Memory = Field("1 GB", description="budget of the decoder's passes; changes no number but for rounding")

    def build(self, context: BuildContext) -> Perplexity:
        """Return the estimator.

        Raises:
            ConfigError: The data are no tokens.
        """
        if context.data.support != "tokens":
            raise ConfigError(
                "evaluation.estimators: 'perplexity' is a likelihood per token, but the data are "
                f"{context.data.support}; use 'nll', which gives bits per dimension"
            )
        return Perplexity(context.data.special, self.samples, self.memory)
