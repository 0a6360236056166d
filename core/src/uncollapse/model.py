"""The latent-variable model: four parts, wired."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from .distributions import DiagonalNormal, FactorizedDensity, rsample_and_log_prob
from .inference import Inference
from .protocols import Bindable, DataInitialized, Decoder, Encoder, Posterior, Prior, Progress

__all__ = ["LatentVariableModel"]


class LatentVariableModel(nn.Module):
    """Encoder, posterior, prior and decoder, wired and nothing more.

    Args:
        encoder: ``[B, *X] -> [B, *H]``.
        posterior: ``[B, *H] -> q(z|x)``.
        prior: ``() -> p(z)``; one that defines ``bind`` is handed :meth:`infer`.
        decoder: ``[..., *D] -> p(x|z)``.
    """

    def __init__(self, encoder: nn.Module, posterior: nn.Module, prior: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.posterior = posterior
        self.prior = prior
        self.decoder = decoder
        if isinstance(prior, Bindable):
            prior.bind(self.infer)

    def infer(self, x: Tensor, progress: Progress | None = None) -> Distribution:
        """Return ``q(z|x)``, batch ``[B]``, event ``D``, for ``x [B, *X]``."""
        return cast(Posterior, self.posterior)(cast(Encoder, self.encoder)(x), progress)

    def generate(self, z: Tensor) -> Distribution:
        """Return ``p(x|z)``, batch ``[...]``, event ``X``, for ``z [..., *D]``."""
        return cast(Decoder, self.decoder)(z)

    def p_z(self) -> Distribution:
        """Return the prior ``p(z)``, batch ``[]``, event ``D``."""
        return cast(Prior, self.prior)()

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape ``D`` of one latent."""
        return cast(Posterior, self.posterior).latent_shape

    def forward(self, x: Tensor, samples: int = 1, progress: Progress | None = None) -> Inference:
        """Make one pass over ``x [B, *X]`` with ``samples`` draws of the posterior."""
        h = cast(Encoder, self.encoder)(x)
        q = cast(Posterior, self.posterior)(h, progress)
        known_log_q = log_q_per_dimension = None
        if isinstance(q, DiagonalNormal):
            z = q.rsample((samples,))
        elif isinstance(q, FactorizedDensity):
            z, log_q_per_dimension = q.rsample_and_log_prob_per_dimension((samples,))
            known_log_q = log_q_per_dimension.flatten(2).sum(2)
        else:
            z, known_log_q = rsample_and_log_prob(q, (samples,))
        return Inference(
            x=x,
            h=h,
            q=q,
            z=z,
            p_z=self.p_z(),
            p_x=self.generate(z),
            progress=progress or Progress(),
            known_log_q=known_log_q,
            log_q_per_dimension=log_q_per_dimension,
        )

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Let every part that asks for it set parameters from ``x [B, *X]``, once, before the first step."""
        encoder, posterior, prior, decoder = self.encoder, self.posterior, self.prior, self.decoder
        if isinstance(encoder, DataInitialized):
            encoder.initialize(x)
        if isinstance(posterior, DataInitialized):
            posterior.initialize(encoder(x))
        if isinstance(prior, DataInitialized):
            prior.initialize(x)
        if isinstance(decoder, DataInitialized):
            decoder.initialize(self.infer(x).sample(), x)
