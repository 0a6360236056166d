"""Any ``nn.Module`` under diagnosis: two functions say how to get ``q(z|x)`` and ``log p(x|z)``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from uncollapse.errors import ConfigError, ShapeError
from uncollapse.passes import device_of
from uncollapse.protocols import Batch

from .posteriors import read_posterior, read_prior

__all__ = ["Adapter"]


class Adapter:
    """A model of anybody's, as a diagnosis sees it.

    Exactly one of ``likelihood`` and ``log_likelihood`` says how data are scored. Both return nats: a reconstruction
    loss is one only with a scale. Mean squared error stands for a Gaussian, so give ``Normal(decode(z), scale)`` with
    the scale that the loss implies: ``sum((x - x')²) + beta KL`` is a Gaussian of ``scale = sqrt(beta / 2)``, and with
    another scale the same model's nats are others. Binary cross-entropy summed over pixels is a Bernoulli's.

    Args:
        posterior: ``x [B, *X]`` to ``q(z|x)``: a torch distribution, an object with ``mean`` and ``logvar`` (or
            ``var``, or ``std``) ``[B, *D]``, one that holds it as ``latent_dist``, or a pair ``(mean, logvar)``.
        likelihood: ``z [B, *D]`` to ``p(x|z)``, a distribution over ``[B, *X]``.
        log_likelihood: ``(x, z)`` to ``log p(x|z)`` in nats, ``[B]``.
        prior: ``p(z)``, one distribution over ``D``; a standard Gaussian for None.
        module: What is put into evaluation mode meanwhile, and whose device is used; None where the functions are
            ready as they are.

    A function that takes a parameter named ``mask`` gets the batch's mask ``[B, T]``, or None.

    Raises:
        ConfigError: None or both of ``likelihood`` and ``log_likelihood`` are given.

    >>> encoder, decoder = nn.Linear(3, 4), nn.Linear(2, 3)
    >>> adapter = Adapter(
    ...     posterior=lambda x: encoder(x).chunk(2, dim=1),
    ...     likelihood=lambda z: torch.distributions.Normal(decoder(z), 0.5),
    ... )
    >>> adapter.log_likelihood(Batch(torch.zeros(5, 3)), torch.zeros(7, 5, 2)).shape
    torch.Size([7, 5])
    """

    codes_share_work = False

    def __init__(
        self,
        posterior: Callable[..., Any],
        *,
        likelihood: Callable[..., Distribution] | None = None,
        log_likelihood: Callable[..., Tensor] | None = None,
        prior: Distribution | None = None,
        module: nn.Module | None = None,
    ) -> None:
        if (likelihood is None) == (log_likelihood is None):
            given = "both" if likelihood is not None else "neither"
            raise ConfigError(
                f"Adapter: give likelihood=z -> p(x|z) or log_likelihood=(x, z) -> nats [B], one of them; found {given}"
            )
        self.module: nn.Module = nn.Module() if module is None else module
        self._posterior, self._likelihood, self._log_likelihood = posterior, likelihood, log_likelihood
        self._prior = prior

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return device_of(self.module)

    def posterior(self, batch: Batch) -> Distribution:
        """Return ``q(z|x)``, batch ``[B]``, event ``D``."""
        return read_posterior(_call(self._posterior, batch, batch.x), len(batch))

    def prior(self, event_shape: torch.Size) -> Distribution:
        """Return ``p(z)``, batch ``[]``, event ``D``."""
        return read_prior(self._prior, event_shape, self.device)

    def log_likelihood(self, batch: Batch, z: Tensor) -> Tensor:
        """Return ``log p(x|z)`` in nats, ``[S, B]``, for ``z [S, B, *D]``.

        Raises:
            ShapeError: The model's answer is not one number for each example.
        """
        return torch.stack([self._scored(batch, one) for one in z])

    def _scored(self, batch: Batch, z: Tensor) -> Tensor:
        count = len(batch)
        if self._log_likelihood is not None:
            found = _call(self._log_likelihood, batch, batch.x, z)
            if not isinstance(found, Tensor) or tuple(found.shape) != (count,):
                shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
                raise ShapeError(
                    f"log_likelihood: expected nats [B] = [{count}], one number for each example, found {shape}; sum "
                    "over pixels or tokens, and do not average over the batch"
                )
            return found
        assert self._likelihood is not None
        p_x = _call(self._likelihood, batch, z)
        if not isinstance(p_x, Distribution):
            raise ShapeError(
                f"likelihood: expected a torch Distribution over x, found {type(p_x).__name__}; wrap what the decoder "
                "returns: Bernoulli(logits=...), or Normal(mean, scale) with the scale of your reconstruction loss"
            )
        found = p_x.log_prob(batch.x)
        if found.dim() < 1 or found.shape[0] != count:
            raise ShapeError(
                f"likelihood: log_prob of {count} examples {list(batch.x.shape)} has shape {list(found.shape)}; "
                f"expected [{count}, ...]"
            )
        return found.reshape(count, -1).sum(1)


def _call(function: Callable[..., Any], batch: Batch, *inputs: Tensor) -> Any:
    try:
        wants_mask = "mask" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        wants_mask = False
    return function(*inputs, mask=batch.mask) if wants_mask else function(*inputs)
