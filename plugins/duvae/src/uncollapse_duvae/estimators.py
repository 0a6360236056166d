"""How uncertain the posteriors of a set are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor
from uncollapse.config import BuildContext, EstimatorConfig
from uncollapse.distributions import gaussian_base
from uncollapse.errors import ConfigError
from uncollapse.model import LatentVariableModel
from uncollapse.passes import as_float64, batches_on_device, mean_estimate, measuring
from uncollapse.protocols import Batch, Estimates, Progress

from .functional import conditional_entropy

__all__ = ["ConditionalEntropy", "ConditionalEntropyConfig"]


class ConditionalEntropy:
    """``H(z|x)``, the mean differential entropy of the posteriors, nats: Shen et al., DU-VAE (2021), eq. 4 and 5,
    https://arxiv.org/abs/2110.12381.

    Its counterpart, the divergence of the posteriors from one another (eq. 2 and 3), is the core's
    ``mutual_posterior_divergence`` with ``per_batch: null``. Variances are those of evaluation: floored, not dropped,
    so that with the floor no dimension has less than 0. Of a flow the Gaussian base is measured (section 3.4); the flow
    of DU-IAF only contracts, which makes this an upper bound.
    """

    def __call__(self, model: LatentVariableModel, batches: Callable[[], Iterable[Batch]]) -> Estimates:
        """Return ``conditional_entropy``, ``per_dimension`` too.

        Raises:
            ConfigError: The posterior has no diagonal Gaussian under it.
        """
        logvars: list[Tensor] = []
        note = ""
        with measuring(model):
            for batch in batches_on_device(model, batches):
                q = model.infer(batch.x, Progress.at_end())
                base = gaussian_base(q)
                if base is None:
                    raise ConfigError(
                        "evaluation.estimators (duvae.conditional_entropy): entropies are known for diagonal Gaussians "
                        f"and the bases of flows, found {type(q).__name__}; use model.posterior: gaussian or iaf, or "
                        "leave it out"
                    )
                note = "" if base is q else "of the Gaussians under the flow"
                logvars.append(as_float64(base.logvar.flatten(1)))
        logvar = torch.cat(logvars)
        entropies = 0.5 * (logvar.sum(1) + logvar.shape[1] * math.log(2 * math.pi * math.e))
        return {"conditional_entropy": mean_estimate(entropies, "nats", note, conditional_entropy(logvar))}


class ConditionalEntropyConfig(EstimatorConfig):
    """Mean entropy of the posteriors: Shen et al., DU-VAE (2021), eq. 4 and 5, https://arxiv.org/abs/2110.12381."""

    type: Literal["duvae.conditional_entropy"] = "duvae.conditional_entropy"

    def build(self, context: BuildContext) -> ConditionalEntropy:
        """Return the estimator."""
        return ConditionalEntropy()
