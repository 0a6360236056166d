"""The terms of the objective and latent clipping, on moments alone.

*Bridging the ELBO and MMD* (anonymous, under review for ICLR 2020); no address is known for it, and no code was
released. Moments are ``[B, *D]``, results scalars in nats per example: sums over latent dimensions, divided by ``B``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

__all__ = ["LOG_VARIANCE_TERMS", "MEAN_TERMS", "LogVarianceTerm", "MeanTerm", "clipped", "logvar_term", "mean_term"]

MeanTerm = Literal["global", "per_example", "per_dimension", "elementwise"]
"""Readings of the mean term; see :func:`mean_term`."""

LogVarianceTerm = Literal["linear", "exp_minus_one", "full", "absolute"]
"""Variants of the log-variance term; see :func:`logvar_term`."""

MEAN_TERMS: dict[MeanTerm, Callable[[Tensor], Tensor]] = {
    "global": lambda mean: mean.sum().abs(),
    "per_example": lambda mean: mean.sum(1).abs().sum(),
    "per_dimension": lambda mean: mean.sum(0).abs().sum(),
    "elementwise": lambda mean: mean.abs().sum(),
}
"""From means ``[B, K]`` to the sum that is divided by ``B``."""

LOG_VARIANCE_TERMS: dict[LogVarianceTerm, Callable[[Tensor], Tensor]] = {
    "linear": lambda logvar: logvar,
    "exp_minus_one": torch.expm1,
    "full": lambda logvar: torch.expm1(logvar) - logvar,
    "absolute": torch.abs,
}
"""From log-variances to the term of each."""


def mean_term(mean: Tensor, reading: MeanTerm = "global") -> Tensor:
    """Return what stands for the squared means of the KL term, in one of four readings of eq. 4.

    ``global`` is the formula of table 3, which is written out "to avoid any ambiguity": the grand mean alone is drawn
    to zero, and means of single dimensions may be anything. Only ``per_dimension`` gives what the text promises, an
    aggregate mean of zero in every dimension with the spread left free. Neither is smooth at zero.

    Args:
        mean: Means of the posteriors of a batch, ``[B, *D]``.
        reading: ``global``: ``|sum_i sum_d mu_id| / B`` (table 3, and eq. 4 as its text explains it). ``per_example``:
            ``sum_i |sum_d mu_id| / B`` (the line before eq. 4, and the caption of figure 2). ``per_dimension``:
            ``sum_d |sum_i mu_id| / B``. ``elementwise``: ``sum_i sum_d |mu_id| / B``, the L1 norm of the text's words,
            which draws every single mean to zero and so towards collapse.
    """
    return MEAN_TERMS[reading](mean.flatten(1)) / len(mean)


def logvar_term(logvar: Tensor, variant: LogVarianceTerm = "linear") -> Tensor:
    """Return what stands for the rest of the KL term: section 4, the paragraph after eq. 5.

    The paper takes ``linear`` and says that each variant draws log-variances to zero. Minimised, ``linear`` and
    ``exp_minus_one`` draw them to minus infinity, the first with a constant slope and without a lower bound; only
    ``full``, the term of eq. 3, and ``absolute`` have their minimum at zero.

    Args:
        logvar: Log-variances of the posteriors of a batch, ``[B, *D]``.
        variant: ``linear``: ``l`` (eq. 6, table 3). ``exp_minus_one``: ``exp(l) - 1``. ``full``: ``exp(l) - l - 1``.
            ``absolute``: ``|l|``; not in the paper, but what its claim asks of a term linear in ``l``.
    """
    return LOG_VARIANCE_TERMS[variant](logvar).sum() / len(logvar)


def clipped(mean: Tensor, c: float) -> Tensor:
    """Return means whose length is at most ``c sqrt(K)``: latent clipping, eq. 5, ``mu min(1, c sqrt(K) / |mu|)``.

    A mean inside keeps its bits. One outside is moved along its ray, so that its gradient has no radial part.

    Args:
        mean: Means ``[B, *D]``, of ``K`` numbers an example.
        c: The paper's 3, or 6 for μ-VAE #2.
    """
    flat = mean.flatten(1)
    limit = c * flat.shape[1] ** 0.5
    # The floor under the length, not a ceiling on the factor: a mean of zero has a gradient, and no NaN.
    length = torch.linalg.vector_norm(flat, dim=1, keepdim=True).clamp(min=limit)
    scaled: Tensor = flat * (limit / length)
    return scaled.view_as(mean)
