"""The latent-variable model: four parts, wired."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from .capabilities import supports
from .distributions import DiagonalNormal, FactorizedDensity, rsample_and_log_prob
from .errors import ConfigError
from .inference import Inference
from .parts import Bindable, DataInitialized, Decoder, Encoder, Hierarchical, Posterior, Prior, TopBindable
from .records import Progress

__all__ = ["LatentVariableModel", "kept_buffers"]


class LatentVariableModel(nn.Module):
    """Encoder, posterior, prior and decoder, wired and nothing more.

    Args:
        encoder: ``[B, *X] -> [B, *H]``.
        posterior: ``[B, *H] -> q(z|x)``.
        prior: ``() -> p(z)``; one that defines ``bind`` is handed :meth:`infer_other`, one that defines ``bind_top``
            the same for the top level.
        decoder: ``[..., *D] -> p(x|z)``.
    """

    def __init__(self, encoder: nn.Module, posterior: nn.Module, prior: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.posterior = posterior
        self.prior = prior
        self.decoder = decoder
        if supports(prior, Bindable):
            prior.bind(self.infer_other)
        if supports(prior, TopBindable):
            prior.bind_top(self._infer_top_other)
        self._progress = Progress.at_end()

    def infer(self, x: Tensor, progress: Progress | None = None) -> Distribution:
        """Return ``q(z|x)``, batch ``[B]``, event ``D``, for ``x [B, *X]``."""
        return cast(Posterior, self.posterior)(cast(Encoder, self.encoder)(x), progress)

    def infer_other(self, x: Tensor) -> Distribution:
        """Return ``q(z|x)`` for ``x [B, *X]`` that are no data: pseudo-inputs, decoded images.

        Schedules stand where the last pass over data left them; what parts keep of the data stays as it is.
        """
        with kept_buffers(self):
            return self.infer(x, self._other_progress)

    def _infer_top_other(self, x: Tensor) -> Distribution:
        with kept_buffers(self):
            return self.infer_top(x, self._other_progress)

    @property
    def _other_progress(self) -> Progress:
        return replace(self._progress if self.training else Progress.at_end(), of_data=False)

    def infer_top(self, x: Tensor, progress: Progress | None = None) -> Distribution:
        """Return ``q(z_top|x)`` of a posterior over several levels, batch ``[B]``, for ``x [B, *X]``.

        What only lower levels need is not computed where the encoder defines ``top``.

        Raises:
            ConfigError: The posterior has no levels.
        """
        if not supports(self.posterior, Hierarchical):
            raise ConfigError(
                "model.posterior: the top level's posterior was asked for (a VampPrior over the top level needs it), "
                f"but {type(self.posterior).__name__} has no levels; use the posterior 'two_level', or another prior"
            )
        features: Callable[[Tensor], Tensor] = getattr(self.encoder, "top", self.encoder)
        return self.posterior.top(features(x), progress)

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
        self._progress = progress or Progress()
        h = cast(Encoder, self.encoder)(x)
        q = cast(Posterior, self.posterior)(h, progress)
        known_log_q = log_q_per_dimension = None
        if isinstance(q, DiagonalNormal):
            z = q.rsample((samples,))
        elif supports(q, FactorizedDensity):
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
            progress=self._progress,
            known_log_q=known_log_q,
            log_q_per_dimension=log_q_per_dimension,
        )

    @torch.no_grad()
    def initialize(self, x: Tensor, stored: Callable[[int], Tensor] | None = None) -> None:
        """Let every part that asks for it set parameters from ``x [B, *X]``, once, before the first step.

        Args:
            x: A batch of training data.
            stored: ``count -> [count, *X]``: training examples as they are kept, for a prior that asks for them; None
                where there are none other than ``x``.
        """
        encoder, posterior, prior, decoder = self.encoder, self.posterior, self.prior, self.decoder
        if supports(encoder, DataInitialized):
            encoder.initialize(x)
        if supports(posterior, DataInitialized):
            posterior.initialize(encoder(x))
        if supports(prior, DataInitialized):
            count = getattr(prior, "stored_examples", 0)
            prior.initialize(x if stored is None or not count else stored(count))
        if supports(decoder, DataInitialized):
            decoder.initialize(self.infer(x).sample(), x)


@contextmanager
def kept_buffers(model: LatentVariableModel) -> Iterator[None]:
    """Give encoder and posterior copies of their buffers meanwhile: running statistics are those of data."""
    parts = (model.encoder, model.posterior) if model.training else ()
    kept = [(m, n, b) for part in parts for m in part.modules() for n, b in m._buffers.items() if b is not None]
    for module, name, buffer in kept:
        module._buffers[name] = buffer.clone()
    try:
        yield
    finally:
        for module, name, buffer in kept:
            module._buffers[name] = buffer
