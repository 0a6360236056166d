"""Active units: latent dimensions whose posterior mean moves with the data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from ..component import BuildContext
from ..errors import ShapeError
from ..kinds import EstimatorConfig
from ..model import LatentVariableModel
from ..passes import AT_END, as_float64, batches_on_device, measuring, posterior_mean
from ..protocols import Batch, Estimate, Estimates

__all__ = ["ActiveUnits", "ActiveUnitsConfig", "active_units"]


def active_units(means: Tensor, threshold: float = 0.01) -> tuple[int, Tensor]:
    """Return how many dimensions of the posterior means ``[N, D]`` are active, and the variances ``[D]``.

    Burda et al. (2016), section 5, https://arxiv.org/abs/1509.00519: ``Var_x(E[z|x]) >= threshold``, with n-1 in the
    variance and ``>=`` as the released codes have it.

    Raises:
        ShapeError: There are fewer than two examples.
    """
    if means.dim() != 2 or len(means) < 2:
        raise ShapeError(f"means: expected [N, D] with N at least 2, found {tuple(means.shape)}")
    variance = means.var(0)
    return int((variance >= threshold).sum()), variance


class ActiveUnits:
    """Number of dimensions with ``Var_x(E[z|x]) >= threshold``: Burda et al. (2016), section 5,
    https://arxiv.org/abs/1509.00519.

    A posterior without a mean in closed form (a flow) has its mean estimated from samples. The noise of that mean
    adds to the variance over x, and would make every dimension of a collapsed flow look active; it is subtracted.

    A count of dimensions that move says little on how much they tell: in a collapsed model most can pass a threshold
    of 0.01. Read it beside the mutual information.

    Args:
        threshold: Least variance of an active dimension.
        samples: Draws per example where the posterior has no mean in closed form, at least 2.
    """

    def __init__(self, threshold: float = 0.01, samples: int = 64) -> None:
        self.threshold = threshold
        self.samples = samples

    def __call__(self, model: LatentVariableModel, batches: Callable[[], Iterable[Batch]]) -> Estimates:
        """Return ``active_units``, with the variance of the posterior means per dimension.

        Raises:
            ShapeError: The set has fewer than two examples.
        """
        means: list[Tensor] = []
        noise: Tensor | None = None
        with measuring(model):
            for batch in batches_on_device(model, batches):
                mean, error = posterior_mean(model.infer(batch.x, AT_END), self.samples)
                means.append(as_float64(mean).flatten(1))
                if error is not None:
                    added = error.flatten(1).sum(0)
                    noise = added if noise is None else noise + added
        every = torch.cat(means)
        _, spread = active_units(every, self.threshold)
        note = f"variance of E[z|x] over x at least {self.threshold:g}"
        if noise is not None:
            spread = spread - noise / len(every)
            note += f"; means of {self.samples} samples, their own variance subtracted"
        return {
            "active_units": Estimate(
                value=float((spread >= self.threshold).sum()),
                unit="units",
                count=len(every),
                per_dimension=tuple(spread.tolist()),
                note=note,
            )
        }


class ActiveUnitsConfig(EstimatorConfig):
    """Latent dimensions whose posterior mean moves with x: Burda et al. (2016), section 5,
    https://arxiv.org/abs/1509.00519.
    """

    type: Literal["active_units"] = "active_units"
    threshold: float = Field(0.01, gt=0, description="least variance of the posterior mean over x")
    samples: PositiveInt = Field(64, ge=2, description="draws for the mean of a posterior without one in closed form")

    def build(self, context: BuildContext) -> ActiveUnits:
        """Return the estimator."""
        return ActiveUnits(self.threshold, self.samples)
