"""Whether the decoder uses the code: what it loses in nats when an example's code is replaced."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from uncollapse.errors import DataError
from uncollapse.passes import as_float64, mean_estimate, standard_error
from uncollapse.protocols import Batch, Estimate

from .codes import Codes
from .settings import Settings
from .subject import Subject, rows_of

__all__ = ["decoder_use_estimates", "used_information"]

_PRIOR_DRAWS = 2


def decoder_use_estimates(subject: Subject, codes: Codes, settings: Settings) -> dict[str, Estimate]:
    """Return ``distortion``, the losses under replaced codes, and the information that the decoder uses.

    ``loss_other``, ``loss_prior`` and ``loss_mean`` are the nats by which ``log p(x|z)`` falls when the example's own
    draw of ``z`` gives way to another example's (averaged over many), to draws of the prior, and to the mean of all
    codes.

    Raises:
        DataError: ``log p(x|z)`` of an example under its own code is not finite.
    """
    own = torch.cat([kept.z for kept in codes.kept])
    count = len(own)
    shifts = torch.randperm(count - 1)[: min(settings.replacements, count - 1)] + 1
    mean = codes.mean.mean(0).reshape(codes.shape).to(own.device, own.dtype)
    columns, start = [], 0
    for kept in codes.kept:
        rows = torch.arange(start, start + len(kept.batch))
        start += len(kept.batch)
        others = own[((rows + shifts[:, None]) % count).to(own.device)]
        drawn = codes.prior.sample(torch.Size((_PRIOR_DRAWS, len(rows)))).to(own.dtype)
        z = torch.cat([kept.z[None], others, drawn, mean.expand(1, len(rows), *codes.shape)])
        columns.append(_scores(subject, kept.batch, z, settings.passes_at_once))
    scores = torch.cat(columns, 1)
    if not bool(torch.isfinite(scores[0]).all()):
        raise DataError(
            "log p(x|z) of an example under its own code is not finite; are the data inside the likelihood's support?"
        )
    log_own, log_others = scores[0], scores[1 : 1 + len(shifts)]
    log_prior, log_mean = scores[1 + len(shifts) : -1], scores[-1]
    return {
        "distortion": mean_estimate(-log_own, "nats"),
        "loss_other": mean_estimate(log_own - log_others.mean(0), "nats", f"mean over {len(shifts)} other codes each"),
        "loss_prior": mean_estimate(log_own - log_prior.mean(0), "nats", f"mean over {_PRIOR_DRAWS} draws each"),
        "loss_mean": mean_estimate(log_own - log_mean, "nats"),
        "used_information": used_information(log_own, log_others),
    }


def used_information(log_own: Tensor, log_others: Tensor) -> Estimate:
    """Return how many nats of the code the decoder uses at least, from log-likelihoods under own and other codes.

    ``E log p(x|z)^t / mean_k p(x|z_k)^t`` with the own code among the ``K``: van den Oord et al., Contrastive
    Predictive Coding (2018), https://arxiv.org/abs/1807.03748; Poole et al. (2019), eq. 10,
    https://arxiv.org/abs/1905.06922. For any ``t`` it is at most ``I(x; z)`` and at most ``log K``, and 0 for a decoder
    that ignores the code. The best ``t`` frees it of the likelihood's scale: it is chosen on each half of the examples
    for the other one.

    Args:
        log_own: ``log p(x|z)`` under the own code ``[N]``.
        log_others: Under those of others ``[K - 1, N]``.
    """
    all_codes = torch.cat([log_own[None], log_others])
    advantage = all_codes - log_own
    spread = advantage[torch.isfinite(advantage)].std().item()
    most = math.log(len(all_codes))
    if not spread > 1e-9:
        return Estimate(0.0, "nats", 0.0, len(log_own), note=f"of {most:.2f} that {len(all_codes)} codes can show")
    scales = [2.0**power / spread for power in range(-4, 6)]
    # [T, N]: for each scale, what every example contributes.
    terms = torch.stack([most - (scale * advantage).logsumexp(0) for scale in scales])
    chosen = torch.empty_like(log_own)
    halves = torch.arange(len(log_own)) % 2 == 0
    for half in (halves, ~halves):
        best = int(terms[:, ~half].mean(1).argmax()) if bool((~half).any()) else 0
        chosen[half] = terms[best, half]
    error = standard_error(chosen)
    note = f"lower bound; of {most:.2f} nats that {len(all_codes)} codes can show"
    return Estimate(chosen.mean().item(), "nats", error, len(log_own), note=note)


def _scores(subject: Subject, batch: Batch, z: Tensor, passes: int) -> Tensor:
    """Return ``log p(x|z)`` ``[S, B]`` for ``z [S, B, *D]``, so many passes of the decoder at a time."""
    codes = len(z) if subject.codes_share_work else 1
    width = max(1, passes // codes)
    columns = []
    for start in range(0, len(batch), width):
        part = rows_of(batch, slice(start, start + width))
        few = z[:, start : start + width].split(min(codes, passes))
        columns.append(torch.cat([as_float64(subject.log_likelihood(part, some)) for some in few]).cpu())
    return torch.cat(columns, 1)
