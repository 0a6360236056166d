"""The covariance of codes, held at the identity."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor
from uncollapse import Inference, Penalty
from uncollapse.config import BuildContext, RegularizerConfig
from uncollapse.errors import ConfigError

__all__ = ["CovariancePenalty", "CovariancePenaltyConfig", "Variant", "covariance"]

Variant = Literal["i", "ii"]

_FACTORS: dict[str, float] = {"i": 10.0, "ii": 1.0}
"""Weight of the diagonal over that off the diagonal where it is not given, as disentanglement_lib has them."""


def covariance(mean: Tensor, logvar: Tensor, variant: Variant = "i") -> Tensor:
    """Return the covariance matrix ``[K, K]`` that the penalty holds at the identity.

    Args:
        mean: Posterior means ``[B, *D]``, with ``K`` numbers in a latent.
        logvar: Logarithms of the posterior variances, the same shape.
        variant: ``i``: of the means, ``Cov_p(x)[mu(x)]`` (eq. 6). ``ii``: of the aggregate posterior,
            ``E_p(x)[Sigma(x)] + Cov_p(x)[mu(x)]`` (eq. 7).

    Expectations are means over the batch, with ``B`` in the denominator.
    """
    mean, logvar = mean.flatten(1), logvar.flatten(1)
    centred = mean - mean.mean(0)
    of_means = centred.T @ centred / len(mean)
    return of_means if variant == "i" else of_means + logvar.exp().mean(0).diag()


class CovariancePenalty:
    """``lambda_od sum_{i != j} C_ij^2 + lambda_d sum_i (C_ii - 1)^2``: Kumar, Sattigeri and Balakrishnan, Variational
    Inference of Disentangled Latent Concepts from Unlabeled Observations (2018), eq. 6 and 7,
    https://arxiv.org/abs/1711.00848.

    The paper wants dimensions that are independent. Against collapse the diagonal is what matters: in variant ``i``
    every dimension whose posterior mean stays in place costs ``lambda_d`` nats. In variant ``ii`` a posterior that has
    collapsed onto a standard normal prior costs nothing at all.

    Args:
        off_diagonal: ``lambda_od``, nats.
        diagonal: ``lambda_d``, nats; None for 10 times ``lambda_od`` in variant ``i``, and once in variant ``ii``.
        variant: Whose covariance; see :func:`covariance`.
    """

    def __init__(self, off_diagonal: float = 10.0, diagonal: float | None = None, variant: Variant = "i") -> None:
        self.off_diagonal = off_diagonal
        self.diagonal = _FACTORS[variant] * off_diagonal if diagonal is None else diagonal
        self.variant: Variant = variant

    def __call__(self, inference: Inference) -> Penalty:
        """Return the penalty in nats per example; terms ``off_diagonal`` and ``diagonal`` are the two sums.

        Raises:
            ConfigError: The posterior is not Gaussian.
        """
        base = inference.gathered().base
        if base is None:
            raise ConfigError(
                "regularizers: 'decorrelate.covariance' needs a Gaussian posterior, whose moments are known, found "
                f"{type(inference.q).__name__}"
            )
        found = covariance(base.mean, base.logvar, self.variant)
        variances = found.diagonal()
        diagonal = (variances - 1).square().sum()
        off_diagonal = found.square().sum() - variances.square().sum()
        total = self.off_diagonal * off_diagonal + self.diagonal * diagonal
        return Penalty(total, {"off_diagonal": off_diagonal, "diagonal": diagonal})


class CovariancePenaltyConfig(RegularizerConfig):
    """DIP-VAE: the covariance of codes is held at the identity: Kumar et al. (2018), eq. 6 and 7,
    https://arxiv.org/abs/1711.00848.
    """

    type: Literal["decorrelate.covariance"] = "decorrelate.covariance"
    off_diagonal: float = Field(10.0, ge=0, description="lambda_od, nats")
    diagonal: float | None = Field(
        None, ge=0, description="lambda_d, nats; null: 10 times lambda_od in variant i, once in variant ii"
    )
    variant: Variant = Field("i", description="i: covariance of posterior means; ii: of the aggregate posterior")

    def build(self, context: BuildContext) -> CovariancePenalty:
        """Return the regularizer."""
        return CovariancePenalty(self.off_diagonal, self.diagonal, self.variant)
