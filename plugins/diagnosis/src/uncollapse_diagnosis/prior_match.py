"""How well the codes of all examples together, the aggregate posterior, match the prior."""

from __future__ import annotations

import math

from uncollapse.passes import standard_error
from uncollapse.protocols import Estimate

from .codes import Codes
from .information import carried

__all__ = ["prior_mismatch"]


def prior_mismatch(codes: Codes) -> Estimate:
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
