"""What a diagnosis measures besides: how well all codes together match the prior, and how far posteriors lie apart."""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution
from uncollapse.errors import ConfigError
from uncollapse.passes import as_float64, standard_error
from uncollapse.plugins import Measurement
from uncollapse.protocols import Estimate, Estimates

from .discrepancy import inverse_multiquadratic, log_determinant, mmd_with_error
from .estimators import pair_statistics

__all__ = ["MEASUREMENTS", "CodesLike"]

_MOST_PAIRED = 2000


class CodesLike(Protocol):
    """What is asked of the posteriors of ``N`` examples over ``K`` numbers; ``uncollapse_diagnosis.codes.Codes``."""

    @property
    def count(self) -> int:
        """``N``."""
        ...

    @property
    def gaussian(self) -> bool:
        """Whether the posteriors are diagonal Gaussians."""
        ...

    @property
    def mean(self) -> Tensor:
        """``[N, K]``."""
        ...

    @property
    def logvar(self) -> Tensor:
        """``[N, K]``."""
        ...

    @property
    def z(self) -> Tensor:
        """One draw of each posterior ``[N, K]``."""
        ...

    @property
    def prior(self) -> Distribution:
        """``p(z)``."""
        ...

    @property
    def prior_moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of the prior, ``[K]`` each."""
        ...


def prior_match(subject: Any, codes: CodesLike, settings: Any) -> Estimates:
    """Return ``mmd`` and, where there are examples enough, ``log_determinant``."""
    if codes.count < 2:
        return {}
    found = {"mmd": _mmd(codes)}
    if codes.count >= 2 * codes.mean.shape[1]:
        found["log_determinant"] = _log_determinant(codes)
    return found


def _mmd(codes: CodesLike) -> Estimate:
    """Tolstikhin et al., Wasserstein Auto-Encoders (2018), section 4, https://arxiv.org/abs/1711.01558: the inverse
    multiquadratic kernel at the prior's own scale, unbiased; of draws of the posteriors and as many of the prior.
    """
    count = min(codes.count, _MOST_PAIRED)
    prior = as_float64(codes.prior.sample(torch.Size((count,)))).flatten(1).cpu()
    bandwidth = 2 * float(codes.prior_moments[1].sum())

    def kernel(squared_distance: Tensor) -> Tensor:
        return inverse_multiquadratic(squared_distance, bandwidth)

    value, error = mmd_with_error(codes.z[:count], prior, kernel, "u")
    return Estimate(value, "squared", error, count, note="inverse multiquadratic kernel, unbiased; 0 for a match")


def _log_determinant(codes: CodesLike) -> Estimate:
    """Zhao et al., InfoVAE (2017), section 4.2.1: the average log-variance of the codes a dimension, here less the
    prior's; the error is the delta method's.
    """
    z = codes.z
    size = z.shape[1]
    centred = z - z.mean(0)
    covariance = torch.cov(z.T).reshape(size, size)
    distances = (centred * torch.linalg.solve(covariance, centred.T).T).sum(1) / size
    prior = codes.prior_moments[1].log().mean().item()
    return Estimate(log_determinant(z).item() - prior, "log-var.", standard_error(distances), codes.count)


def mutual_divergence(subject: Any, codes: CodesLike, settings: Any) -> Estimates:
    """Return ``mutual_posterior_divergence``: Ma et al., MAE (2019), eq. 4, https://arxiv.org/abs/1901.01498.

    Raises:
        ConfigError: The posteriors are no diagonal Gaussians.
    """
    if not codes.gaussian:
        raise ConfigError("the posterior is no diagonal Gaussian, and pairwise divergences are known for those")
    if codes.count < 2:
        return {}
    count = min(codes.count, _MOST_PAIRED, max(2, math.isqrt(settings.pairs // codes.mean.shape[1])))
    pairs = pair_statistics(codes.mean[:count], codes.logvar[:count])
    # An average over pairs moves by twice the part that one example contributes.
    error = standard_error(pairs.example_means)
    return {
        "mutual_posterior_divergence": Estimate(
            pairs.mean,
            "nats",
            None if error is None else 2 * error,
            count,
            tuple(pairs.per_dimension.tolist()),
            f"all pairs of {count} examples",
        )
    }


MEASUREMENTS = (
    Measurement(
        "prior_match",
        prior_match,
        {"mmd": "0 where q(z) is the prior", "log_determinant": "0 where q(z) is the prior"},
    ),
    Measurement(
        "mutual_posterior_divergence", mutual_divergence, {"mutual_posterior_divergence": "between two posteriors"}
    ),
)
"""What the distribution contributes to a diagnosis."""
