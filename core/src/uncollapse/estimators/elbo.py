"""The evidence lower bound and its two terms, measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from ..component import BuildContext
from ..distributions import analytic_kl
from ..errors import ConfigError
from ..inference import RateMode
from ..kinds import EstimatorConfig
from ..model import LatentVariableModel
from ..passes import as_float64, batches_on_device, mean_estimate, measuring
from ..protocols import Batch, Estimates
from .draws import Draws
from .memory import Memory

__all__ = ["ELBOEstimator", "ELBOEstimatorConfig"]


class ELBOEstimator:
    """``elbo = -(distortion + rate)``, nats per example: Kingma and Welling (2014), eq. 3,
    https://arxiv.org/abs/1312.6114.

    No free bits, no weight on the rate: the bound itself, whatever the model was trained with.

    Args:
        samples: Draws of the posterior per example, ``S``.
        rate: Analytic, Monte Carlo, or analytic where known.
        memory: Budget of the decoder's passes, ``"500 MB"`` or ``"1 GiB"`` say; changes no number but for rounding.
    """

    def __init__(self, samples: int = 1, rate: RateMode = "auto", memory: str = "1 GB") -> None:
        self.samples = samples
        self.rate = rate
        self.memory = memory

    def __call__(self, model: LatentVariableModel, batches: Callable[[], Iterable[Batch]]) -> Estimates:
        """Return ``elbo``, ``rate`` and ``distortion`` in nats.

        Raises:
            ConfigError: An analytic rate was asked for and the pair of posterior and prior has none.
        """
        rates: list[Tensor] = []
        distortions: list[Tensor] = []
        analytic = False
        with measuring(model):
            p_z = model.p_z()
            draws = Draws(model, self.samples, self.memory)
            for batch in batches_on_device(model, batches):
                for x, q in draws.posteriors(batch.x):
                    known = None if self.rate == "monte_carlo" else analytic_kl(q, p_z)
                    if known is None and self.rate == "analytic":
                        raise ConfigError(
                            f"rate: 'analytic' was asked for, but KL({type(q).__name__} || {type(p_z).__name__}) has "
                            "no known closed form; use 'auto' or 'monte_carlo'"
                        )
                    analytic = known is not None
                    terms = draws.log_terms(x, q)
                    distortions.append(-terms.log_p_x.mean(0))
                    rates.append((terms.log_q - terms.log_p_z).mean(0) if known is None else as_float64(known))
        rate, distortion = torch.cat(rates), torch.cat(distortions)
        note = f"{self.samples} sample{'s' if self.samples > 1 else ''} of z per example"
        return {
            "elbo": mean_estimate(-(distortion + rate), "nats", note),
            "rate": mean_estimate(rate, "nats", "analytic" if analytic else f"Monte Carlo, {note}"),
            "distortion": mean_estimate(distortion, "nats", note),
        }


class ELBOEstimatorConfig(EstimatorConfig):
    """The evidence lower bound, rate and distortion: Kingma and Welling (2014), eq. 3,
    https://arxiv.org/abs/1312.6114.
    """

    type: Literal["elbo"] = "elbo"
    samples: PositiveInt = Field(1, description="draws of the posterior per example")
    rate: RateMode = Field("auto", description="analytic, monte_carlo, or auto: analytic where known")
    memory: Memory = Field("1 GB", description="budget of the decoder's passes; changes no number but for rounding")

    def build(self, context: BuildContext) -> ELBOEstimator:
        """Return the estimator."""
        return ELBOEstimator(self.samples, self.rate, self.memory)
