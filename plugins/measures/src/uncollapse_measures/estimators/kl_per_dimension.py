"""Where the rate is spent: the divergence of every latent dimension."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor
from uncollapse.config import BuildContext, EstimatorConfig
from uncollapse.distributions import DiagonalNormal, kl_per_dimension
from uncollapse.errors import ConfigError
from uncollapse.model import LatentVariableModel
from uncollapse.passes import AT_END, as_float64, batches_on_device, exact_gaussian, mean_estimate, measuring
from uncollapse.protocols import Batch, Estimates

__all__ = ["KLPerDimension", "KLPerDimensionConfig"]


class KLPerDimension:
    """``E_x KL(q(z_d|x) || p(z_d))`` for every dimension ``d``, analytic: Kingma and Welling (2014), appendix B,
    https://arxiv.org/abs/1312.6114.

    The value is the sum over dimensions, which is the rate.
    """

    def __call__(self, model: LatentVariableModel, batches: Callable[[], Iterable[Batch]]) -> Estimates:
        """Return ``kl_per_dimension`` in nats.

        Raises:
            ConfigError: Posterior or prior is no diagonal Gaussian, so that the rate does not split into dimensions.
        """
        totals: list[Tensor] = []
        sums: Tensor | None = None
        with measuring(model):
            p_z = model.p_z()
            p = exact_gaussian(p_z)
            for batch in batches_on_device(model, batches):
                q_z = model.infer(batch.x, AT_END)
                q = exact_gaussian(q_z)
                if q is None or p is None:
                    raise ConfigError(
                        f"kl_per_dimension: the posterior is {type(q_z).__name__} and the prior {type(p_z).__name__}, "
                        "and only the divergence of two diagonal Gaussians is a sum over latent dimensions; "
                        "use the estimator 'elbo' for the rate as a whole"
                    )
                kl = kl_per_dimension(_double(q), _double(p)).flatten(1)
                totals.append(kl.sum(1))
                sums = kl.sum(0) if sums is None else sums + kl.sum(0)
        total = torch.cat(totals)
        each = None if sums is None else sums / len(total)
        return {"kl_per_dimension": mean_estimate(total, "nats", "analytic; the value is the sum", each)}


def _double(q: DiagonalNormal) -> DiagonalNormal:
    return DiagonalNormal(as_float64(q.mean), as_float64(q.logvar), len(q.event_shape))


class KLPerDimensionConfig(EstimatorConfig):
    """The rate of every latent dimension: Kingma and Welling (2014), appendix B, https://arxiv.org/abs/1312.6114."""

    type: Literal["kl_per_dimension"] = "kl_per_dimension"

    def build(self, context: BuildContext) -> KLPerDimension:
        """Return the estimator."""
        return KLPerDimension()
