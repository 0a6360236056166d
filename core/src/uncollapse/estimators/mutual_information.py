"""Mutual information between data and latent, from the aggregate posterior of a set."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor
from torch.distributions import Distribution

from ..component import BuildContext
from ..distributions import rsample_and_log_prob
from ..kinds import EstimatorConfig
from ..model import LatentVariableModel
from ..passes import AT_END, as_float64, batches_on_device, exact_gaussian, mean_estimate, measuring
from ..protocols import Batch, Estimates
from .aggregate import PAIRS_AT_ONCE, log_aggregate_posterior, sampled_log_density

__all__ = [
    "MutualInformation",
    "MutualInformationConfig",
    "MutualInformationVariant",
    "mutual_information_terms",
]

MutualInformationVariant = Literal["b2", "analytic", "minibatch"]

_NAMES: dict[str, str] = {
    "b2": "mutual_information",
    "analytic": "mutual_information_analytic",
    "minibatch": "mutual_information_minibatch",
}

_LOG_2PI_E = math.log(2 * math.pi) + 1


def mutual_information_terms(
    mean: Tensor,
    logvar: Tensor,
    z: Tensor,
    variant: MutualInformationVariant = "b2",
    minibatch_sizes: Sequence[int] | None = None,
) -> Tensor:
    """Return one term per example, nats, ``[N]``, whose mean estimates ``I(x; z)`` under ``q(z|x)``.

    ============= =============================== ============== ==================================================
    variant       ``log q`` of the example        aggregate over used by
    ============= =============================== ============== ==================================================
    ``b2``        ``log q(z_i|x_i)`` of its draw  all N examples InfoVAE, Zhao et al. (2017), appendix B.2
    ``analytic``  ``-H(q(z|x_i))`` in closed form all N examples DU-VAE, Shen et al. (2021), released code
    ``minibatch`` ``-H(q(z|x_i))`` in closed form its minibatch  lagging encoders, He et al. (2019), released code
    ============= =============================== ============== ==================================================

    The aggregate is ``(1/M) sum_j q(z_i|x_j)``; InfoVAE prints ``q(z_j|x_j)``, which is no mutual information.
    ``b2`` is at most ``log N`` for every sample, the others in expectation; ``minibatch`` is capped by the logarithm
    of the minibatch, whatever the size of the set, and compares with neither of the others. Those two estimate the same
    quantity; the noise of a draw cancels between the terms of ``b2``, which is sharper near a collapse and at the cap.

    Args:
        mean: Means of the posteriors ``[N, D]``.
        logvar: Their log-variances ``[N, D]``.
        z: One draw of each ``[N, D]``.
        variant: See the table.
        minibatch_sizes: For ``minibatch``: sizes of the consecutive minibatches, summing to ``N``.
    """
    mean, logvar, z = as_float64(mean), as_float64(logvar), as_float64(z)
    own = sampled_log_density(mean, logvar, z) if variant == "b2" else -0.5 * (logvar + _LOG_2PI_E).sum(1)
    if variant != "minibatch":
        return own - log_aggregate_posterior(mean, logvar, z)
    sizes = list(minibatch_sizes) if minibatch_sizes is not None else [len(mean)]
    parts = zip(*(torch.split(t, sizes) for t in (mean, logvar, z)), strict=True)
    return own - torch.cat([log_aggregate_posterior(*part) for part in parts])


class MutualInformation:
    """``I(x; z)`` between the set and the latent, in nats: how much the code tells examples apart.

    Gaussian posteriors: see :func:`mutual_information_terms`; all pairs of the set are used, in bounded memory. Any
    other posterior (a flow, a hierarchy) is evaluated on all pairs through its own ``log_prob`` in a second pass,
    which is slow; with no entropy in closed form, the log density of its draw stands in its place.

    Args:
        variant: ``b2``, ``analytic`` or ``minibatch``.
        minibatch_size: Size of the minibatches of ``minibatch``: consecutive examples of the set.
        pairs_at_once: Pairs of examples whose log density is held at once; bounds memory.
    """

    def __init__(
        self,
        variant: MutualInformationVariant = "b2",
        minibatch_size: int = 50,
        pairs_at_once: int = PAIRS_AT_ONCE,
    ) -> None:
        self.variant = variant
        self.minibatch_size = minibatch_size
        self.pairs_at_once = pairs_at_once

    def __call__(self, model: LatentVariableModel, batches: Callable[[], Iterable[Batch]]) -> Estimates:
        """Return ``mutual_information`` (of ``b2``) in nats, or with ``_analytic`` or ``_minibatch`` behind it."""
        gaussian = True
        own: list[Tensor] = []
        zs: list[Tensor] = []
        moments: list[tuple[Tensor, Tensor]] = []
        with measuring(model):
            for batch in batches_on_device(model, batches):
                q = model.infer(batch.x, AT_END)
                base = exact_gaussian(q)
                if base is None:
                    gaussian = False
                    z, log_q = rsample_and_log_prob(q, (1,))
                    zs.append(z[0])
                    own.append(as_float64(self._own(q, log_q[0])))
                    continue
                # Drawn in float64: a narrow posterior's sample would not survive rounding to its mean's precision.
                mean, logvar = as_float64(base.mean).flatten(1), as_float64(base.logvar).flatten(1)
                moments.append((mean, logvar))
                zs.append(torch.addcmul(mean, (0.5 * logvar).exp(), torch.randn_like(mean)))
            z = torch.cat(zs)
            sizes = self._sizes(len(z))
            if gaussian:
                mean, logvar = (torch.cat(m) for m in zip(*moments, strict=True))
                terms = mutual_information_terms(mean, logvar, z, self.variant, sizes)
            else:
                terms = torch.cat(own) - self._log_aggregate(model, batches, z, sizes)
            note = self._note(len(z), gaussian)
            if terms.mean() > math.log(max(sizes)) + 1e-9:
                note += "; above that by the noise of its draws"
        return {_NAMES[self.variant]: mean_estimate(terms, "nats", note)}

    def _own(self, q: Distribution, log_q: Tensor) -> Tensor:
        if self.variant != "b2":
            try:
                return -q.entropy()
            except NotImplementedError:
                pass
        return log_q

    def _sizes(self, count: int) -> list[int]:
        size = self.minibatch_size if self.variant == "minibatch" else count
        full, rest = divmod(count, size)
        return [size] * full + ([rest] if rest else [])

    def _log_aggregate(
        self, model: LatentVariableModel, batches: Callable[[], Iterable[Batch]], z: Tensor, sizes: list[int]
    ) -> Tensor:
        device = as_float64(z[:1]).device
        total = torch.full((len(z),), -math.inf, dtype=torch.float64, device=device)
        counts = torch.tensor(sizes, device=device)
        group = torch.arange(len(sizes), device=device).repeat_interleave(counts)
        start = 0
        for batch in batches_on_device(model, batches):
            q = model.infer(batch.x, AT_END)
            columns = group[start : start + len(batch)]
            start += len(batch)
            # Groups are consecutive: only rows between the first and the last group of this batch can pair with it.
            first, last = (int(i) for i in (columns[0], columns[-1]))
            low, high = sum(sizes[:first]), sum(sizes[: last + 1])
            at_once = max(1, self.pairs_at_once // (len(batch) * z[0].numel()))
            for here in range(low, high, at_once):
                rows = slice(here, min(here + at_once, high))
                pairs = z[rows].unsqueeze(1).expand(-1, len(batch), *z.shape[1:])
                log_q = as_float64(q.log_prob(pairs)).masked_fill(group[rows, None] != columns, -math.inf)
                total[rows] = torch.logaddexp(total[rows], log_q.logsumexp(1))
        return total - counts.double().log()[group]

    def _note(self, count: int, gaussian: bool) -> str:
        if self.variant == "minibatch":
            size = min(self.minibatch_size, count)
            note = f"aggregate of minibatches of {size}: at most log {size} = {math.log(size):.2f} nats"
        else:
            note = f"aggregate of all {count} examples: at most log {count} = {math.log(count):.2f} nats"
        if not gaussian and self.variant != "b2":
            note += "; posterior is no diagonal Gaussian, its entropy estimated from the draws unless it states one"
        return note


class MutualInformationConfig(EstimatorConfig):
    """Mutual information of data and latent from the aggregate posterior: Hoffman and Johnson, ELBO surgery (2016);
    variants of Zhao et al. (2017), appendix B.2, and of the released codes of Shen et al. (2021) and He et al. (2019).
    """

    type: Literal["mutual_information"] = "mutual_information"
    variant: MutualInformationVariant = Field(
        "b2",
        description="b2: log density of the draw, aggregate of the whole set; analytic: entropy in closed form, whole "
        "set; minibatch: aggregate of minibatches, capped by the logarithm of their size",
    )
    minibatch_size: PositiveInt = Field(50, ge=2, description="examples of a minibatch, for 'minibatch' only")

    def build(self, context: BuildContext) -> MutualInformation:
        """Return the estimator."""
        return MutualInformation(self.variant, self.minibatch_size)
