"""The regularizer that takes the place of the KL term, and its place in a pipeline."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, PositiveFloat
from torch import nn
from torch.distributions import Distribution
from uncollapse.config import BuildContext, RegularizerConfig
from uncollapse.distributions import DiagonalNormal, gaussian_base
from uncollapse.errors import ConfigError, ShapeError
from uncollapse.inference import Inference
from uncollapse.protocols import Penalty

from .functional import LogVarianceTerm, MeanTerm, logvar_term, mean_term

__all__ = ["ModifiedKL", "ModifiedKLConfig"]

_TYPE = "muvae.modified_kl"
_PLACE = f"regularizers ({_TYPE})"


class ModifiedKL(nn.Module):
    """What stands for the KL term in μ-VAE's objective: *Bridging the ELBO and MMD* (2019), eq. 4 to 6 and table 3.

    ``weight * (|sum of means| + sum of log-variances) / B``, nats per example, beside the objective
    ``reconstruction``, which has no rate. Under data parallelism the sums are those of the global batch.

    With the paper's ``linear`` term the loss has no lower bound: log-variances fall at a constant slope until the
    posterior's ``logvar_range`` stops them, and the rate (eq. 3), which is reported, grows with them.

    Args:
        mean: How the mean term is read; see :func:`~uncollapse_muvae.functional.mean_term`.
        logvar: Which log-variance term; see :func:`~uncollapse_muvae.functional.logvar_term`.
        weight: Of both. Eq. 6 and table 3 have 1 beside a squared error that is summed over pixels.

    Raises:
        ConfigError: A name is none of those, or the weight is not positive.

    >>> import torch
    >>> q = torch.distributions.Normal(torch.tensor([[5.0, 1.0], [-1.0, -5.0]]), torch.ones(2, 2))
    >>> [ModifiedKL(mean)(q).total.item() for mean in ("global", "per_example", "per_dimension", "elementwise")]
    [0.0, 6.0, 4.0, 6.0]
    """

    def __init__(self, mean: MeanTerm = "global", logvar: LogVarianceTerm = "linear", weight: float = 1.0) -> None:
        super().__init__()
        for field, found, allowed in (
            ("mean", mean, get_args(MeanTerm)),
            ("logvar", logvar, get_args(LogVarianceTerm)),
        ):
            if found not in allowed:
                raise ConfigError(f"{_TYPE}: {field} must be one of {', '.join(allowed)}; found {found!r}")
        if weight <= 0:
            raise ConfigError(f"{_TYPE}: weight must be positive; found {weight}")
        self.mean: MeanTerm = mean
        self.logvar: LogVarianceTerm = logvar
        self.weight = weight

    def forward(self, inference: Inference | Distribution) -> Penalty:
        """Return the penalty, with terms ``mean`` and ``logvar``, scalars.

        Args:
            inference: A pass through the model, or a diagonal Gaussian with batch ``[B]``.

        Raises:
            ConfigError: The posterior is no diagonal Gaussian.
            ShapeError: The posterior's batch is not ``[B]``.
        """
        q = _gaussian(inference)
        terms = {"mean": mean_term(q.mean, self.mean), "logvar": logvar_term(q.logvar, self.logvar)}
        return Penalty(self.weight * (terms["mean"] + terms["logvar"]), terms)

    def extra_repr(self) -> str:
        """Return the names of the terms and the weight."""
        return f"mean={self.mean!r}, logvar={self.logvar!r}, weight={self.weight}"


def _gaussian(inference: Inference | Distribution) -> DiagonalNormal:
    """Return the posteriors of the global batch."""
    q = inference.q if isinstance(inference, Inference) else inference
    found = gaussian_base(q)
    # The moments of a flow's base are not those of the codes.
    if found is None or getattr(q, "base", None) is not None:
        raise ConfigError(
            f"{_PLACE}: its terms are those of a diagonal Gaussian posterior, found {type(q).__name__}; use "
            "model.posterior: {type: gaussian}"
        )
    if isinstance(inference, Inference):
        found = inference.gathered().base or found
    if len(found.batch_shape) != 1:
        raise ShapeError(
            f"{_PLACE}: expected a posterior with batch [B] and event D, found batch {list(found.batch_shape)} and "
            f"event {list(found.event_shape)}"
        )
    return found


class ModifiedKLConfig(RegularizerConfig):
    """What stands for the KL term in μ-VAE: *Bridging the ELBO and MMD* (2019), eq. 4 to 6 and table 3."""

    type: Literal["muvae.modified_kl"] = "muvae.modified_kl"
    mean: MeanTerm = Field(
        "global",
        description="where the bars of the absolute value stand: around the sum over everything (table 3), over each "
        "example's dimensions, over the batch in each dimension (what the text promises), or around each mean",
    )
    logvar: LogVarianceTerm = Field(
        "linear",
        description="of a log-variance l: l (the paper's, without a lower bound), exp(l) - 1, exp(l) - l - 1, or |l|",
    )
    weight: PositiveFloat = Field(1.0, description="of both terms, beside a squared error summed over pixels")

    def build(self, context: BuildContext) -> ModifiedKL:
        """Return the regularizer."""
        return ModifiedKL(self.mean, self.logvar, self.weight)
