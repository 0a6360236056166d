"""Where a hierarchy spends its rate: the divergence of each level."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor
from torch.distributions import kl_divergence
from uncollapse.config import BuildContext, EstimatorConfig
from uncollapse.distributions import analytic_kl, rsample_and_log_prob
from uncollapse.errors import ConfigError
from uncollapse.model import LatentVariableModel
from uncollapse.passes import AT_END, as_float64, batches_on_device, mean_estimate, measuring
from uncollapse.protocols import Batch, Estimates

from ..distributions.hierarchy import TwoLevel

__all__ = ["RatePerLevel", "RatePerLevelConfig"]


class RatePerLevel:
    """The two terms of a two-level rate, nats: ``rate_top = E_x KL(q(z2|x) || p(z2))`` and
    ``rate_bottom = E_x E_q(z2|x) KL(q(z1|x, z2) || p(z1|z2))``.

    They sum to the rate: the chain rule of relative entropy (Cover and Thomas, 2006, theorem 2.5.3) on the bound of
    Tomczak and Welling (2018), section 4, https://arxiv.org/abs/1705.07120. A hierarchy collapses level by level, the
    top one first, which the rate as a whole does not show. The bottom term is analytic given ``z2``; so is the top
    term where its pair has a closed form, else it is Monte Carlo.

    Args:
        samples: Draws of ``z2`` per example.
    """

    def __init__(self, samples: int = 1) -> None:
        self.samples = samples

    def __call__(self, model: LatentVariableModel, batches: Callable[[], Iterable[Batch]]) -> Estimates:
        """Return ``rate_top`` and ``rate_bottom`` in nats.

        Raises:
            ConfigError: Posterior or prior do not have two levels.
        """
        tops: list[Tensor] = []
        bottoms: list[Tensor] = []
        analytic = False
        with measuring(model):
            p = model.p_z()
            for batch in batches_on_device(model, batches):
                q = model.infer(batch.x, AT_END)
                if not isinstance(q, TwoLevel) or not isinstance(p, TwoLevel) or q.bottom_dim != p.bottom_dim:
                    raise ConfigError(
                        f"rate_per_level: the posterior is {type(q).__name__} and the prior {type(p).__name__}, and "
                        "only the rate of a posterior and a prior with the same two levels has a part for each; use "
                        "the estimator 'elbo' for the rate as a whole"
                    )
                z2, log_q = rsample_and_log_prob(q.top, torch.Size((self.samples,)))
                known = analytic_kl(q.top, p.top)
                analytic = known is not None
                tops.append(as_float64((log_q - p.top.log_prob(z2)).mean(0) if known is None else known))
                bottoms.append(as_float64(kl_divergence(q.bottom(z2), p.bottom(z2))).mean(0))
        draws = f"{self.samples} sample{'s' if self.samples > 1 else ''} of the top level per example"
        return {
            "rate_top": mean_estimate(torch.cat(tops), "nats", "analytic" if analytic else f"Monte Carlo, {draws}"),
            "rate_bottom": mean_estimate(torch.cat(bottoms), "nats", f"analytic given the top level, {draws}"),
        }


class RatePerLevelConfig(EstimatorConfig):
    """The rate of each level of a two-level hierarchy: the chain rule of relative entropy on the bound of Tomczak and
    Welling (2018), section 4, https://arxiv.org/abs/1705.07120.
    """

    type: Literal["rate_per_level"] = "rate_per_level"
    samples: PositiveInt = Field(1, description="draws of the top level per example")

    def build(self, context: BuildContext) -> RatePerLevel:
        """Return the estimator."""
        return RatePerLevel(self.samples)
