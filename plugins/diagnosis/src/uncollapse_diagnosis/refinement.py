"""How far the inference network is behind: what gradient steps on an example's own posterior would gain."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution
from uncollapse.distributions import DiagonalNormal, kl_per_dimension, rsample_and_log_prob
from uncollapse.errors import ConfigError
from uncollapse.passes import as_float64, exact_gaussian, mean_estimate
from uncollapse.protocols import Batch, Estimate

from .codes import Codes
from .settings import Settings
from .subject import Subject, rows_of

__all__ = ["inference_gap"]

_RATE = 0.3
"""Steps of the mean in the prior's standard deviations, falling to 0: all together reach three of them."""

_SELECTION, _JUDGEMENT = 4, 8
"""Draws that choose the best of the points on the way, and others that say what it gains."""


def inference_gap(subject: Subject, codes: Codes, settings: Settings) -> Estimate:
    """Return the nats of the ELBO that refining each example's posterior gains; a lower bound of the amortization gap.

    The gap is Cremer, Li and Duvenaud's (2018), https://arxiv.org/abs/1801.03558: the bound under the best diagonal
    Gaussian less that under the network's. The refinement is that of semi-amortized inference, Kim et al. (2018),
    https://arxiv.org/abs/1802.02550, with Adam's steps: gradient steps on mean and log-variance from where the network
    puts them. Of the start and four points on the way the best is chosen for each example with one set of draws, and
    its gain measured with another. Choosing by few draws costs a little, so that no gap may come out slightly negative.

    A posterior of another family is the start itself, and the steps lead from the diagonal Gaussian of its mean and
    variances: what they gain over it bounds its gap as well, if less tightly where its family is the richer one.

    Raises:
        ConfigError: ``log p(x|z)`` has no gradient in ``z``.
    """
    gains, left, row = [], settings.refined_examples, 0
    scale = float(codes.prior_moments[1].mean().sqrt())
    for kept in codes.kept:
        for start in range(0, len(kept.batch), settings.passes_at_once):
            if left <= 0:
                break
            rows = slice(start, start + min(settings.passes_at_once, left))
            part = rows_of(kept.batch, rows)
            q = exact_gaussian(kept.q)
            if q is not None:
                moments, own = (q.mean[rows], q.logvar[rows]), None
            else:
                place = slice(row + start, row + start + len(part))
                moments = (_shaped(codes.mean[place], kept.z), _shaped(codes.logvar[place], kept.z))
                own = subject.posterior(part)
            problem = _Problem(subject, part, codes.prior, own)
            gains.append(problem.gain(*moments, settings.refinement_steps, scale))
            left -= len(part)
        row += len(kept.batch)
    note = f"{settings.refinement_steps} steps on each example's mean and log-variance; a lower bound"
    return mean_estimate(torch.cat(gains), "nats", note)


def _shaped(rows: Tensor, like: Tensor) -> Tensor:
    return rows.reshape(len(rows), *like.shape[1:]).to(like.device, like.dtype)


class _Problem:
    """The ELBO of some examples as a function of their posteriors' moments.

    Args:
        subject: The model.
        batch: Examples ``[B]``.
        prior: ``p(z)``.
        own: The network's posterior where it is no diagonal Gaussian.
    """

    def __init__(self, subject: Subject, batch: Batch, prior: Distribution, own: Distribution | None) -> None:
        self.subject, self.batch, self.prior, self.own = subject, batch, prior, own
        self.gaussian_prior = exact_gaussian(prior)

    def gain(self, mean: Tensor, logvar: Tensor, steps: int, scale: float) -> Tensor:
        """Return what refinement gains for each example ``[B]``, nats, float64."""
        best = start = (mean.detach(), logvar.detach())
        draws = torch.randn(_SELECTION, *mean.shape, dtype=mean.dtype, device=mean.device)
        first = best_value = self._judged(*start, draws) if self.own is None else self._own_bound(_SELECTION)
        candidates = self._path(*start, steps, scale)
        for candidate in candidates if self.own is None else [start, *candidates]:
            value = self._judged(*candidate, draws)
            better = value > best_value
            best_value = torch.where(better, value, best_value)
            wide = better.reshape(-1, *[1] * (mean.dim() - 1))
            best = (torch.where(wide, candidate[0], best[0]), torch.where(wide, candidate[1], best[1]))
        draws = torch.randn(_JUDGEMENT, *mean.shape, dtype=mean.dtype, device=mean.device)
        before = self._judged(*start, draws) if self.own is None else self._own_bound(_JUDGEMENT)
        gained = self._judged(*best, draws) - before
        # Where the network's own posterior was the best, nothing is gained, whatever its draws.
        return torch.where(best_value > first, gained, torch.zeros_like(gained)).cpu()

    def _own_bound(self, draws: int) -> Tensor:
        """Return the ELBO ``[B]`` under the network's own posterior."""
        assert self.own is not None
        rows = []
        for _ in range(draws):
            z, log_q = rsample_and_log_prob(self.own, torch.Size((1,)))
            log_p = self.subject.log_likelihood(self.batch, z) + self.prior.log_prob(z)
            rows.append(as_float64(log_p - log_q).mean(0))
        return torch.stack(rows).mean(0)

    def _judged(self, mean: Tensor, logvar: Tensor, draws: Tensor) -> Tensor:
        rows = [as_float64(self._bound(mean, logvar, one[None])) for one in draws]
        value = torch.stack(rows).mean(0)
        return torch.where(torch.isfinite(value), value, -torch.inf)

    def _bound(self, mean: Tensor, logvar: Tensor, noise: Tensor) -> Tensor:
        """Return the ELBO ``[B]`` from one draw ``noise [1, B, *D]``."""
        z = mean + noise * (0.5 * logvar).exp()
        q = DiagonalNormal(mean, logvar, mean.dim() - 1)
        if self.gaussian_prior is not None:
            rate = kl_per_dimension(q, self.gaussian_prior).flatten(1).sum(1)
        else:
            rate = (q.log_prob(z) - self.prior.log_prob(z)).mean(0)
        log_likelihood = self.subject.log_likelihood(self.batch, z)
        if torch.is_grad_enabled() and not log_likelihood.requires_grad:
            raise ConfigError(
                "log p(x|z) has no gradient in z: the decoder does not read it, or is called without gradients"
            )
        return log_likelihood.mean(0) - rate

    def _path(self, mean: Tensor, logvar: Tensor, steps: int, scale: float) -> list[tuple[Tensor, Tensor]]:
        moments = [mean.detach().clone().requires_grad_(), logvar.detach().clone().requires_grad_()]
        optimizer = torch.optim.Adam([{"params": [moments[0]]}, {"params": [moments[1]]}], betas=(0.5, 0.9))
        kept, found = {steps * quarter // 4 for quarter in (1, 2, 3, 4)}, []
        # cudnn's recurrent layers have no backward pass in evaluation mode.
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            for step in range(1, steps + 1):
                for group, unit in zip(optimizer.param_groups, (scale, 2.0), strict=True):
                    group["lr"] = _RATE * unit * (1 - (step - 1) / steps)
                bound = self._bound(moments[0], moments[1], torch.randn_like(moments[0])[None]).sum()
                gradients = torch.autograd.grad(-bound, moments)
                for moment, gradient in zip(moments, gradients, strict=True):
                    moment.grad = torch.nan_to_num(gradient)
                optimizer.step()
                if step in kept:
                    found.append((moments[0].detach().clone(), moments[1].detach().clone()))
        return found
