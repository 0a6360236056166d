"""MIM and A-MIM: losses of encoded and decoded pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from uncollapse.distributions import rsample_and_log_prob
from uncollapse.errors import ConfigError
from uncollapse.inference import Inference
from uncollapse.model import LatentVariableModel
from uncollapse.protocols import Batch, Loss, Progress, Schedule
from uncollapse.schedules import ConstantSchedule

from .densities import DecodeDensity, LatentDensity, LogDensities, annealed_log_prior, log_density_of
from .functional import (
    Baseline,
    Halves,
    Warmup,
    combine,
    cross_entropy_loss,
    marginal_log_density,
    mim_loss,
    mim_minus_entropy_loss,
    reinforce,
)

__all__ = ["AMIM", "MIM", "Decoded", "Gradient", "LossName", "When"]

LossName = Literal["mim", "cross_entropy", "mim_minus_entropy"]
When = Literal["always", "after_warmup"]
Decoded = Literal["sample", "mean"]
Gradient = Literal["auto", "reinforce", "detach"]

_LOSSES: dict[LossName, Callable[..., Tensor]] = {
    "mim": mim_loss,
    "cross_entropy": cross_entropy_loss,
    "mim_minus_entropy": mim_minus_entropy_loss,
}


class AMIM(nn.Module):
    """Asymmetric MIM: the MIM loss of encoded pairs alone, ``x ~ P(x)`` and ``z ~ q(z|x)``, nats per example.

    Livne, Swersky and Fleet, MIM (2019), appendix C.3, https://arxiv.org/abs/1910.03175. With the marginal ``q(x)`` it
    comes to ``-(log p(x|z) + log p(z))``, algorithm 2, line 6: an autoencoder whose codes are scored by the prior, with
    no term for the posterior's entropy.

    Args:
        q_x: Density of the data: a module ``() -> Distribution`` over ``X``, a prior's for instance, with parameters
            or without. None for the decoder's marginal, eq. 23.
        beta: Weight of the warm-up, a number or a schedule.
        warmup: Where ``beta`` stands: ``paper``, eq. 12: on ``log q(x)`` and ``log p(z)``; ``released_toy``: on
            ``log q(z|x)`` and ``log q(x)``; ``released_image``: there, and on the topmost level of ``log p(z)``.
        loss: ``mim``, eq. 22; ``cross_entropy``, eq. 7; ``mim_minus_entropy``, appendix E.1.
        p_z: ``model``: the model's prior; ``marginal``: ``E_q(x)[q(z|x)]``, which needs a density ``q_x``.
        samples: Draws of the posterior per example, ``S``.

    Raises:
        ConfigError: ``p_z`` and ``q(x)`` would both be marginals.
    """

    def __init__(
        self,
        q_x: nn.Module | None = None,
        beta: float | Schedule = 1.0,
        warmup: Warmup = "paper",
        loss: LossName = "mim",
        p_z: LatentDensity = "model",
        samples: int = 1,
    ) -> None:
        super().__init__()
        if p_z == "marginal" and q_x is None:
            raise ConfigError(
                "objective.p_z: 'marginal' is an average over q(x), and q(x) is an average over p(z) in turn; give a "
                "density objective.q_x, {type: gaussian_mixture} say, or leave p_z out"
            )
        self.q_x = q_x
        self.beta: Schedule = beta if callable(beta) else ConstantSchedule(beta)
        self.warmup, self.loss, self.p_z, self.samples = warmup, loss, p_z, samples

    def forward(self, model: LatentVariableModel, batch: Batch, progress: Progress) -> Loss:
        """Return the loss, with terms ``elbo``, ``distortion``, ``rate`` and ``encode_half`` per example ``[B]``."""
        beta = self.beta(progress)
        inference, encoded = self._encode(model, batch, progress, beta)
        return self._loss(inference, encoded, encoded.mean(), {}, beta)

    def extra_repr(self) -> str:
        """Return what was chosen by name."""
        return f"loss={self.loss!r}, warmup={self.warmup!r}, p_z={self.p_z!r}, samples={self.samples}"

    def _encode(
        self, model: LatentVariableModel, batch: Batch, progress: Progress, beta: float
    ) -> tuple[Inference, Tensor]:
        """Return the pass over the data and the loss of its pairs, ``[B]``."""
        inference = model(batch.x, samples=self.samples, progress=progress)
        q_x = log_density_of(self.q_x, model)
        terms = LogDensities.of_encoded(inference, q_x, self.p_z, beta, self.warmup)
        return inference, self._of(terms, beta).mean(0)

    def _of(self, terms: LogDensities, beta: float) -> Tensor:
        return _LOSSES[self.loss](terms.log_q_z, terms.log_q_x, terms.log_p_x, terms.log_p_z, beta, self.warmup)

    def _loss(
        self, inference: Inference, encoded: Tensor, total: Tensor, more: dict[str, Tensor], beta: float
    ) -> Loss:  # fmt: skip
        # Detached, and not computed without gradients: the inference keeps what it computes, and regularizers read it.
        rate, distortion = inference.rate().detach(), inference.distortion.detach()
        terms = {"elbo": -(distortion + rate), "distortion": distortion, "rate": rate, "encode_half": encoded, **more}
        return Loss(total=total, terms=terms, inference=inference, weights={"beta": beta})


class MIM(AMIM):
    """Mutual Information Machine: the MIM loss of encoded and of decoded pairs, nats per example.

    Livne, Swersky and Fleet, MIM (2019), eq. 8, 12 and 22, algorithm 2, https://arxiv.org/abs/1910.03175. The decode
    half draws ``z ~ P(z)`` from the anchor and ``x ~ p(x|z)`` from the decoder, and scores ``q(z|x)`` of the encoder at
    the anchor's ``z``. Where the decoder's distribution has ``rsample`` the gradient reaches it through ``x``; else
    ``x`` is a constant and REINFORCE takes its place. Any encoder, posterior, prior and decoder will do; with an
    autoregressive decoder every step draws ancestral samples.

    Args:
        q_x: As for :class:`AMIM`.
        beta: As for :class:`AMIM`.
        warmup: As for :class:`AMIM`.
        loss: As for :class:`AMIM`.
        p_z: As for :class:`AMIM`.
        samples: As for :class:`AMIM`, of encoded pairs.
        halves: ``average``, algorithm 2; ``sum``, as the released codes, which doubles the reported loss.
        decode_half: ``always``, as the paper; ``after_warmup``: only once ``beta`` has its final value, as the released
            codes. Without it the loss is that of :class:`AMIM`.
        decode_q_x: With the marginal ``q(x)``, what estimates it on the decode half. ``generating``: ``log p(x|z)`` of
            the ``z`` that ``x`` was generated from, algorithm 2, line 10, which at a consistent model is too high by
            the mutual information. ``reencoded``: importance sampling with a fresh ``z ~ q(z|x)``, as the released toy
            code, which has no such bias.
        anchor: ``P(z)``: a module ``() -> Distribution``, whose samples carry no gradient. None for the model's own
            prior, as the released image code.
        decode_examples: Decoded pairs of a step; None for as many as encoded ones.
        decoded: ``sample``; or ``mean``: the decoder's mean without gradient in the place of a sample, as the released
            codes do for binary data.
        gradient: Of the decode half through ``x``. ``auto``: reparameterized where the distribution can, else
            REINFORCE; ``reinforce``: always the latter; ``detach``: none, which is biased.
        baseline: Of REINFORCE; see :func:`uncollapse_mim.functional.reinforce`.
    """

    def __init__(
        self,
        q_x: nn.Module | None = None,
        beta: float | Schedule = 1.0,
        warmup: Warmup = "paper",
        loss: LossName = "mim",
        p_z: LatentDensity = "model",
        samples: int = 1,
        *,
        halves: Halves = "average",
        decode_half: When = "always",
        decode_q_x: DecodeDensity = "generating",
        anchor: nn.Module | None = None,
        decode_examples: int | None = None,
        decoded: Decoded = "sample",
        gradient: Gradient = "auto",
        baseline: Baseline = "none",
    ) -> None:
        super().__init__(q_x, beta, warmup, loss, p_z, samples)
        self.anchor = anchor
        self.halves, self.decode_half, self.decode_q_x = halves, decode_half, decode_q_x
        self.decode_examples, self.decoded = decode_examples, decoded
        self.gradient, self.baseline = gradient, baseline

    def forward(self, model: LatentVariableModel, batch: Batch, progress: Progress) -> Loss:
        """Return the loss, with the terms of :class:`AMIM` and ``decode_half``, a scalar, where there is one."""
        beta = self.beta(progress)
        inference, encoded = self._encode(model, batch, progress, beta)
        if self.decode_half == "after_warmup" and beta != self.beta(Progress.at_end()):
            return self._loss(inference, encoded, encoded.mean(), {}, beta)
        decoded = self._decode(model, inference, progress, beta).mean()
        return self._loss(
            inference, encoded, combine(encoded.mean(), decoded, self.halves), {"decode_half": decoded}, beta
        )

    def extra_repr(self) -> str:
        """Return what was chosen by name."""
        return (
            f"{super().extra_repr()}, halves={self.halves!r}, decode_half={self.decode_half!r}, "
            f"decode_q_x={self.decode_q_x!r}, decoded={self.decoded!r}, gradient={self.gradient!r}, "
            f"baseline={self.baseline!r}"
        )

    def _decode(self, model: LatentVariableModel, inference: Inference, progress: Progress, beta: float) -> Tensor:
        """Return the loss of decoded pairs, ``[N]``."""
        prior = inference.p_z
        anchor: Distribution = prior if self.anchor is None else cast(Any, self.anchor)()
        with torch.no_grad():
            z = anchor.sample(torch.Size((self.decode_examples or len(inference.x),)))
        p_x = model.generate(z)
        reparameterized = self.gradient == "auto" and self.decoded == "sample" and p_x.has_rsample
        x = p_x.rsample() if reparameterized else (p_x.mean if self.decoded == "mean" else p_x.sample()).detach()
        q = model.infer_other(x)
        terms = self._decoded_densities(model, x, z, q, p_x, prior, beta)
        loss = self._of(terms, beta)
        if reparameterized or self.gradient == "detach":
            return loss
        return reinforce(loss, terms.log_p_x, self.baseline)

    def _decoded_densities(
        self,
        model: LatentVariableModel,
        x: Tensor,
        z: Tensor,
        q: Distribution,
        p_x: Distribution,
        prior: Distribution,
        beta: float,
    ) -> LogDensities:
        # The encoder is scored at the anchor's z: scored at codes of its own it would not learn to invert the decoder.
        log_q_z, log_p_x = q.log_prob(z), p_x.log_prob(x)
        density = log_density_of(self.q_x, model)
        if density is not None:
            log_q_x = density.log_prob(x)
        elif self.decode_q_x == "generating":
            log_q_x = log_p_x
        else:
            again, log_proposal = rsample_and_log_prob(q)
            likelihood = model.generate(again).log_prob(x)
            log_q_x = marginal_log_density(likelihood, self._log_prior(prior, again, beta), log_proposal)
        if self.p_z == "marginal":
            log_p_z = marginal_log_density(log_q_z, log_q_x, log_p_x)
        else:
            log_p_z = self._log_prior(prior, z, beta)
        return LogDensities(log_q_z, log_q_x, log_p_x, log_p_z)

    def _log_prior(self, prior: Distribution, z: Tensor, beta: float) -> Tensor:
        return annealed_log_prior(prior, z, beta) if self.warmup == "released_image" else prior.log_prob(z)
