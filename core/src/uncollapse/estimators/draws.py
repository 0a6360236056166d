"""Draws of the posterior for every example, and their log densities, within a memory budget."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from ..distributions import rsample_and_log_prob
from ..model import LatentVariableModel
from ..passes import AT_END, as_float64
from .memory import Footprint, parse_memory

__all__ = ["Draws", "LogTerms"]

_AT_ONCE = 8192
"""Latents that are drawn at once. Not a question of memory: the noise must not depend on the budget."""


@dataclass(frozen=True)
class LogTerms:
    """Log densities of ``k`` draws for ``b`` examples, each ``[k, b]``, nats, float64."""

    log_p_x: Tensor
    log_p_z: Tensor
    log_q: Tensor

    @property
    def log_weights(self) -> Tensor:
        """``log p(x|z) + log p(z) - log q(z|x)``."""
        return self.log_p_x + self.log_p_z - self.log_q


class Draws:
    """Exactly ``samples`` draws of the posterior for each example, with their log densities.

    Latents are drawn in an order that follows from ``samples`` and the batches alone; then as many at once go through
    prior and decoder as the budget allows, which on a CPU are no more than its cache likes. So the budget changes no
    number but for rounding. What a pass takes is measured on a few latents of the first example of each shape.

    Args:
        model: The model, in evaluation mode, without gradients.
        samples: Draws per example, ``K``.
        memory: Budget of decoder, likelihood and prior, ``"1 GB"`` say; the encoder sees a batch as it comes.

    Raises:
        ValueError: ``memory`` is no amount of memory.
    """

    def __init__(self, model: LatentVariableModel, samples: int, memory: str) -> None:
        self.model, self.samples = model, samples
        self._budget = parse_memory(memory)
        self._p_z = model.p_z()
        self._footprints: dict[torch.Size, Footprint] = {}

    def posteriors(self, x: Tensor) -> Iterator[tuple[Tensor, Distribution]]:
        """Yield ``x [b, *X]`` and ``q(z|x)``, some examples at a time, for :meth:`log_terms`."""
        for some in torch.split(x, max(1, _AT_ONCE // self.samples)):
            yield some, self.model.infer(some, AT_END)

    def log_terms(self, x: Tensor, q: Distribution) -> LogTerms:
        """Draw ``samples`` times from ``q(z|x)`` for ``x [b, *X]`` and return the draws' log densities ``[K, b]``.

        Raises:
            ConfigError: One latent takes more than the budget.
        """
        parts = []
        for start in range(0, self.samples, _AT_ONCE):
            z, log_q = rsample_and_log_prob(q, torch.Size((min(_AT_ONCE, self.samples - start),)))
            parts.append((*self._densities(z, x), as_float64(log_q)))
        return LogTerms(*(torch.cat(terms) for terms in zip(*parts, strict=True)))

    def _densities(self, z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``log p(x|z)`` and ``log p(z)`` of ``z [k, b, *D]``, ``[k, b]`` each, float64."""
        if x.shape[1:] not in self._footprints:
            self._footprints[x.shape[1:]] = Footprint.measure(self._at_once, z, x)
        draws, images = self._footprints[x.shape[1:]].chunk(self._budget, len(z), len(x), z.device)
        columns = []
        for some_z, some_x in zip(z.split(images, 1), x.split(images), strict=True):
            rows = [self._at_once(part, some_x) for part in some_z.split(draws)]
            columns.append([torch.cat(terms) for terms in zip(*rows, strict=True)])
        log_p_x, log_p_z = (torch.cat(terms, 1) for terms in zip(*columns, strict=True))
        return log_p_x, log_p_z

    def _at_once(self, z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        return as_float64(self.model.generate(z).log_prob(x)), as_float64(self._p_z.log_prob(z))
