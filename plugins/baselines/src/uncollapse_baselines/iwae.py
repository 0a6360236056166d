"""The importance-weighted bound."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, PositiveInt
from uncollapse.config import BuildContext, ObjectiveConfig
from uncollapse.model import LatentVariableModel
from uncollapse.protocols import Batch, Loss, Progress

__all__ = ["IWAE", "IWAEConfig"]


class IWAE:
    """The negative importance-weighted bound, ``-log 1/K sum_k w_k`` with ``w = p(x|z) p(z) / q(z|x)``, in nats per
    example: Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders (2016), eq. 8,
    https://arxiv.org/abs/1509.00519.

    Its gradient weights each draw by its share of the sum (eq. 13). One draw gives the ELBO with a Monte Carlo rate;
    more make the bound tighter and the signal for the posterior weaker.

    Args:
        samples: Draws of the posterior per example, ``K``.
    """

    def __init__(self, samples: int = 5) -> None:
        self.samples = samples

    def __call__(self, model: LatentVariableModel, batch: Batch, progress: Progress) -> Loss:
        """Return the loss, with terms ``iwae``, ``elbo``, ``rate`` and ``distortion`` per example ``[B]``.

        ``iwae`` is the bound itself, never below the ``elbo`` of the same draws, whose rate is Monte Carlo.
        """
        inference = model(batch.x, samples=self.samples, progress=progress)
        log_weights = inference.log_p_x + inference.log_p_z - inference.log_q
        bound = log_weights.logsumexp(0) - math.log(self.samples)
        distortion, rate = inference.distortion, inference.rate("monte_carlo")
        return Loss(
            total=-bound.mean(),
            terms={"iwae": bound, "elbo": -(distortion + rate), "distortion": distortion, "rate": rate},
            inference=inference,
        )


class IWAEConfig(ObjectiveConfig):
    """The importance-weighted bound: Burda et al. (2016), eq. 8, https://arxiv.org/abs/1509.00519."""

    type: Literal["iwae"] = "iwae"
    samples: PositiveInt = Field(5, description="draws of the posterior per example, K")

    def build(self, context: BuildContext) -> IWAE:
        """Return the objective."""
        return IWAE(self.samples)
