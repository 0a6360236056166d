"""How well the codes of all examples together, the aggregate posterior, match the prior."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from uncollapse.estimators import as_float64, standard_error
from uncollapse.protocols import Estimate
from uncollapse_measures.discrepancy import inverse_multiquadratic, log_determinant, mmd_with_error

from .codes import Codes
from .information import carried

__all__ = ["prior_match_estimates"]

_MOST_PAIRED = 2000


def prior_match_estimates(codes: Codes) -> dict[str, Estimate]:
    """Return ``prior_mismatch``, ``mmd`` and, where there are examples enough, ``log_determinant``."""
    if codes.count < 2:
        return {}
    found = {"prior_mismatch": _mismatch(codes), "mmd": _mmd(codes)}
    if codes.count >= 2 * codes.mean.shape[1]:
        found["log_determinant"] = _log_determinant(codes)
    return found


def _mismatch(codes: Codes) -> Estimate:
    """Return a lower bound of ``KL(q(z) || p(z))`` in nats, which no number of examples caps.

    The rate is ``I(x; z) + KL(q(z) || p(z))`` (Hoffman and Johnson, ELBO surgery, 2016), and the information is at most
    the sum of what every number of the latent can carry. For a standard Gaussian prior, what is left of the rate is the
    divergence of the Gaussian with the aggregate's means and variances. Means and variances of ``N`` examples are off
    by chance, which adds ``Var[E[z_k|x]] / 2 V_k N + Var[s_k] / 4 V_k² N`` for every number, ``V_k`` the mean of
    ``s_k``: that is taken off, and counted in the error.
    """
    value, influence = carried(codes)
    deviation = (codes.mean - codes.mean.mean(0)).square()
    squares = deviation + codes.logvar.exp()
    total = squares.mean(0)
    chance = (0.5 * deviation.mean(0) / total + 0.25 * squares.var(0) / total.square()) / codes.count
    left = codes.rate - influence.sum(1)
    error = standard_error(left) or 0.0
    return Estimate(
        value=left.mean().item() - value.sum().item() - chance.sum().item(),
        unit="nats",
        standard_error=math.hypot(error, math.sqrt(2 * float(chance.square().sum()))),
        count=codes.count,
        note="lower bound of KL(q(z) || p(z)) from means and variances",
    )


def _mmd(codes: Codes) -> Estimate:
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


def _log_determinant(codes: Codes) -> Estimate:
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
