"""What the codes carry and what they cost, in total and by unit, from the posteriors alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from uncollapse.estimators import mutual_information_terms
from uncollapse.passes import as_float64, mean_estimate
from uncollapse.protocols import Estimate

from .codes import Codes
from .settings import Settings

__all__ = ["ACTIVE_THRESHOLDS", "Units", "information_estimates", "mean_and_errors", "unit_estimate", "units_of"]

ACTIVE_THRESHOLDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
"""Least variances of a posterior mean at which active units are counted; 0.01 is that of Burda et al. (2016)."""

_MOST_PAIRED = 2000


@dataclass(frozen=True)
class Units:
    """What each unit of the latent does: a dimension of a flat latent, a channel of a spatial one, ``U`` of them.

    Every quantity stands with its standard error. Variances and means are averages over the ``size`` numbers of a unit.

    Args:
        size: Numbers of the latent in one unit.
        rate: ``E_x KL(q(z_u|x) || p(z_u))`` in nats; None where the rate does not fall apart so.
        information: What the unit can carry at most, nats: see :func:`units_of`.
        moved: ``Var_x E[z_u|x]``, what active units are counted by.
        posterior_variance: ``E_x Var[z_u|x]`` over the prior's variance.
        aggregate_mean: Distance of ``E[z_u]`` from the prior's mean, in the prior's standard deviations.
        aggregate_variance: ``Var[z_u]`` over the prior's variance.
    """

    size: int
    rate: tuple[tuple[float, float], ...] | None
    information: tuple[tuple[float, float], ...]
    moved: tuple[tuple[float, float], ...]
    posterior_variance: tuple[tuple[float, float], ...]
    aggregate_mean: tuple[tuple[float, float], ...]
    aggregate_variance: tuple[tuple[float, float], ...]


def mean_and_errors(values: Tensor) -> tuple[tuple[float, float], ...]:
    """Return mean and standard error of every column of ``[N, U]``."""
    errors = values.std(0) / math.sqrt(len(values)) if len(values) > 1 else torch.zeros_like(values[0])
    return tuple(zip(values.mean(0).tolist(), errors.tolist(), strict=True))


def carried(codes: Codes) -> tuple[Tensor, Tensor]:
    """Return the most that every number of the latent can carry ``[K]``, and each example's influence on it ``[N, K]``.

    ``h(z_k) - h(z_k|x)`` with the aggregate's entropy replaced by that of the Gaussian of the same variance ``V_k``,
    which is the largest: ``(log V_k - E log Var[z_k|x]) / 2``. It bounds ``I(x; z_k)`` from above, needs no pairs, and
    has no cap. The influence is the delta method's.
    """
    mean, logvar = codes.mean, codes.logvar
    centre = mean.mean(0)
    squares = (mean - centre).square() + logvar.exp()
    total = squares.mean(0)
    level = logvar.mean(0)
    value = 0.5 * (total.log() - level)
    return value, 0.5 * (squares / total - 1 - (logvar - level))


def units_of(codes: Codes) -> Units:
    """Return what every unit of the latent does, with standard errors."""
    size = codes.mean.shape[1] // codes.units
    value, influence = carried(codes)
    information = codes.per_unit(value) + codes.per_unit(influence)
    prior_mean, prior_variance = codes.prior_moments
    centre = codes.mean.mean(0)
    deviation = (codes.mean - centre).square()
    count = codes.count
    # With n-1, as active units are counted.
    moved = deviation * (count / max(1, count - 1))
    variance = codes.logvar.exp()

    def averaged(values: Tensor) -> tuple[tuple[float, float], ...]:
        return mean_and_errors(codes.per_unit(values) / size)

    rate = codes.rate_per_dimension
    return Units(
        size=size,
        rate=None if rate is None else mean_and_errors(codes.per_unit(rate)),
        information=mean_and_errors(information),
        moved=averaged(moved),
        posterior_variance=averaged(variance / prior_variance),
        aggregate_mean=averaged((codes.mean - prior_mean) / prior_variance.sqrt()),
        aggregate_variance=averaged((deviation + variance) / prior_variance),
    )


def unit_estimate(units: Units, count: int) -> Estimate:
    """Return what every unit can carry at most as one estimate, ``per_dimension`` being per unit; the value the sum."""
    values, errors = zip(*units.information, strict=True)
    return Estimate(sum(values), "nats", None, count, values, "upper bound, by unit of the latent", errors)


def information_estimates(codes: Codes, settings: Settings) -> dict[str, Estimate]:
    """Return rate, mutual information, active units and posterior variance."""
    each = codes.rate_per_dimension
    found = {"rate": mean_estimate(codes.rate, "nats", per_dimension=None if each is None else each.mean(0))}
    if codes.count > 1:
        found["mutual_information"] = _mutual_information(codes, settings)
        found |= _active_units(codes)
    _, prior_variance = codes.prior_moments
    ratio = codes.logvar.exp() / prior_variance
    found["posterior_variance"] = mean_estimate(ratio.mean(1), "ratio", per_dimension=ratio.mean(0))
    return found


def _mutual_information(codes: Codes, settings: Settings) -> Estimate:
    """Zhao et al., InfoVAE (2017), appendix B.2: see :func:`uncollapse.estimators.mutual_information_terms`."""
    if codes.gaussian:
        count = min(codes.count, max(2, math.isqrt(settings.pairs // codes.mean.shape[1])))
        terms = mutual_information_terms(codes.mean[:count], codes.logvar[:count], codes.z[:count], "b2")
    else:
        count = min(codes.count, _MOST_PAIRED)
        terms = codes.log_q[:count] - _log_aggregate(codes, count)
    cap = math.log(count)
    note = f"aggregate of {count} examples: at most log {count} = {cap:.2f} nats"
    return mean_estimate(terms, "nats", note)


def _log_aggregate(codes: Codes, count: int) -> Tensor:
    """Return ``log (1/N) sum_j q(z_i|x_j)`` ``[N]`` through the posteriors' own densities."""
    total = torch.full((count,), -math.inf, dtype=torch.float64)
    seen = 0
    for q in codes.posteriors:
        width = int(q.batch_shape[0])
        used = min(width, count - seen)
        if used <= 0:
            break
        device = q.sample().device
        for rows in torch.arange(count).split(max(1, 2**22 // (width * codes.mean.shape[1]))):
            z = codes.z[rows].reshape(len(rows), 1, *codes.shape).to(device, torch.get_default_dtype())
            log_q = as_float64(q.log_prob(z.expand(-1, width, *codes.shape)))[:, :used].cpu()
            total[rows] = torch.logaddexp(total[rows], log_q.logsumexp(1))
        seen += used
    return total - math.log(count)


def _active_units(codes: Codes) -> dict[str, Estimate]:
    """Burda et al. (2016), section 5, https://arxiv.org/abs/1509.00519, over a range of thresholds.

    The error of the count takes each variance as a Gaussian number around its estimate.
    """
    squares = (codes.mean - codes.mean.mean(0)).square() * (codes.count / (codes.count - 1))
    variance = squares.mean(0)
    errors = squares.std(0) / math.sqrt(codes.count)
    found = {}
    for threshold in ACTIVE_THRESHOLDS:
        above = torch.special.ndtr((variance - threshold) / errors.clamp(min=1e-300))
        found[f"active_units_{threshold:g}"] = Estimate(
            value=float((variance >= threshold).sum()),
            unit="units",
            standard_error=float((above * (1 - above)).sum().sqrt()),
            count=codes.count,
            note=f"variance of E[z|x] over x at least {threshold:g}",
        )
    return found
