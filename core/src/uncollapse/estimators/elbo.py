"""The evidence lower bound and its two terms, measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from ..config.component import BuildContext, EstimatorConfig
from ..distributions import analytic_kl
from ..errors import ConfigError
from ..inference import RateMode
from ..model import LatentVariableModel
from ..protocols import Batch, Estimates
from .passes import AT_END, as_float64, batches_on_device, draw, mean_estimate, measuring

__all__ = ["ELBOEstimator", "ELBOEstimatorConfig"]


class ELBOEstimator:
    """``elbo = -(distortion + rate)``, nats per example: Kingma and Welling (2014), eq. 3,
    https://arxiv.org/abs/1312.6114.

    No free bits, no weight on the rate: the bound itself, whatever the model was trained with.

    Args:
        samples: Draws of the posterior per example, ``S``.
        rate: Analytic, Monte Carlo, or analytic where known.
        max_batch: Latents that go through the decoder at once; bounds memory.
    """

    def __init__(self, samples: int = 1, rate: RateMode = "auto", max_batch: int = 1000) -> None:
        self.samples = samples
        self.rate = rate
        self.max_batch = max_batch

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
            for batch in batches_on_device(model, batches):
                for x in torch.split(batch.x, self.max_batch):
                    q = model.infer(x, AT_END)
                    known = None if self.rate == "monte_carlo" else analytic_kl(q, p_z)
                    if known is None and self.rate == "analytic":
                        raise ConfigError(
                            f"rate: 'analytic' was asked for, but KL({type(q).__name__} || {type(p_z).__name__}) has "
                            "no known closed form; use 'auto' or 'monte_carlo'"
                        )
                    analytic = known is not None
                    distortion, rate = self._sums(model, q, p_z, x)
                    distortions.append(distortion / self.samples)
                    rates.append(rate / self.samples if known is None else as_float64(known))
        rate, distortion = torch.cat(rates), torch.cat(distortions)
        draws = f"{self.samples} sample{'s' if self.samples > 1 else ''} of z per example"
        return {
            "elbo": mean_estimate(-(distortion + rate), "nats", draws),
            "rate": mean_estimate(rate, "nats", "analytic" if analytic else f"Monte Carlo, {draws}"),
            "distortion": mean_estimate(distortion, "nats", draws),
        }

    def _sums(
        self, model: LatentVariableModel, q: torch.distributions.Distribution, p_z: torch.distributions.Distribution,
        x: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        distortion = rate = torch.zeros((), dtype=torch.float64)
        for terms in draw(model, q, p_z, x, self.samples, self.max_batch):
            here = terms.log_p_x.device
            distortion = distortion.to(here) - terms.log_p_x.sum(0)
            rate = rate.to(here) + (terms.log_q - terms.log_p_z).sum(0)
        return distortion, rate


class ELBOEstimatorConfig(EstimatorConfig):
    """The evidence lower bound, rate and distortion: Kingma and Welling (2014), eq. 3,
    https://arxiv.org/abs/1312.6114.
    """

    type: Literal["elbo"] = "elbo"
    samples: PositiveInt = Field(1, description="draws of the posterior per example")
    rate: RateMode = Field("auto", description="analytic, monte_carlo, or auto: analytic where known")
    max_batch: PositiveInt = Field(1000, description="latents that go through the decoder at once; bounds memory")

    def build(self, context: BuildContext) -> ELBOEstimator:
        """Return the estimator."""
        return ELBOEstimator(self.samples, self.rate, self.max_batch)
