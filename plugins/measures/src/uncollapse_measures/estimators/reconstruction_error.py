"""How far reconstructions lie from the data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor
from uncollapse.config import BuildContext, EstimatorConfig
from uncollapse.errors import ConfigError
from uncollapse.model import LatentVariableModel
from uncollapse.passes import AT_END, as_float64, batches_on_device, mean_estimate, measuring, posterior_mean
from uncollapse.protocols import Batch, Estimates

__all__ = ["ReconstructionError", "ReconstructionErrorConfig"]


class ReconstructionError:
    """Squared distance ``|x - x'|^2`` of a reconstruction, summed over the values of an example, averaged over x.

    ``x'`` is the mean of ``p(x|z)`` at the posterior's mean; for a decoder without a mean in closed form (an
    autoregressive one) it is an ancestral sample, which costs one decoder pass per value of ``x``. A decoder that
    ignores its code gets the error of the data's own variance (twice that for samples).

    Args:
        examples: Use only the first examples of the set; None for all.
        samples: Draws for the mean of a posterior that has none in closed form.
    """

    def __init__(self, examples: int | None = 1000, samples: int = 16) -> None:
        self.examples = examples
        self.samples = samples

    def __call__(self, model: LatentVariableModel, batches: Callable[[], Iterable[Batch]]) -> Estimates:
        """Return ``reconstruction_error``."""
        errors: list[Tensor] = []
        seen = 0
        how = ""
        with measuring(model):
            for batch in batches_on_device(model, batches):
                x = batch.x if self.examples is None else batch.x[: self.examples - seen]
                mean, _ = posterior_mean(model.infer(x, AT_END), self.samples)
                p_x = model.generate(mean.to(x.dtype).to(x.device))
                try:
                    reconstruction, how = p_x.mean, "mean of p(x|z)"
                except NotImplementedError:
                    reconstruction, how = p_x.sample(), "one sample of p(x|z)"
                errors.append(as_float64(x - reconstruction).square().flatten(1).sum(1))
                seen += len(x)
                if seen == self.examples:
                    break
        unit = "squared error, summed over the values of an example"
        return {"reconstruction_error": mean_estimate(torch.cat(errors), unit, f"{how} at the mean of q(z|x)")}


class ReconstructionErrorConfig(EstimatorConfig):
    """Squared error of reconstructions from the posterior's mean; the Gaussian distortion of Kingma and Welling (2014),
    appendix C.2, without its scale.
    """

    type: Literal["reconstruction_error"] = "reconstruction_error"
    examples: PositiveInt | None = Field(1000, description="use only the first examples; null for all")
    samples: PositiveInt = Field(16, ge=2, description="draws for the mean of a posterior without one in closed form")

    def build(self, context: BuildContext) -> ReconstructionError:
        """Return the estimator.

        Raises:
            ConfigError: The data are tokens, between which there is no distance.
        """
        if context.data.support == "tokens":
            raise ConfigError(
                "evaluation.estimators: 'reconstruction_error' is a squared distance, which tokens do not have; "
                "use 'elbo' (its distortion) instead"
            )
        return ReconstructionError(self.examples, self.samples)
