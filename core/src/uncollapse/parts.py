"""What the parts of a model must be able to do: the protocols of its four parts, and their optional methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

from torch import Tensor, nn
from torch.distributions import Distribution

from .records import Progress

__all__ = [
    "Bindable",
    "DataInitialized",
    "Decoder",
    "Encoder",
    "Hierarchical",
    "Likelihood",
    "MomentTransform",
    "Posterior",
    "Prior",
    "TopBindable",
    "output_channels",
]


class Encoder(Protocol):
    """``encoder(x) -> h``: ``[B, *X] -> [B, *H]``, deterministic features for the posterior."""

    feature_shape: tuple[int, ...]

    def __call__(self, x: Tensor) -> Tensor: ...


class Posterior(Protocol):
    """``posterior(h, progress) -> q(z|x)``: batch ``[B]``, event ``D``, with a reparameterized ``rsample``."""

    latent_shape: tuple[int, ...]

    def __call__(self, h: Tensor, progress: Progress | None = None) -> Distribution: ...


class MomentTransform(Protocol):
    """``transform(mean, logvar, progress) -> (mean, logvar)``, all ``[B, *D]``: reshapes a Gaussian before sampling."""

    def __call__(self, mean: Tensor, logvar: Tensor, progress: Progress | None = None) -> tuple[Tensor, Tensor]: ...


class Prior(Protocol):
    """``prior() -> p(z)``: batch ``[]``, event ``D``."""

    def __call__(self) -> Distribution: ...


class Decoder(Protocol):
    """``decoder(z) -> p(x|z)``: ``[..., *D]`` to batch ``[...]``, event ``X``.

    ``log_prob(x)`` of an autoregressive decoder teacher-forces; its ``sample()`` is ancestral.
    """

    def __call__(self, z: Tensor) -> Distribution: ...


class Likelihood(Protocol):
    """``likelihood(outputs) -> p(x|z)``: raw ``[..., O, *rest]`` to batch ``[...]``, event ``X = (C, *rest)``.

    It says how many numbers ``O`` it reads at a position by one of two attributes: ``outputs_per_value``, ``O / C``, or
    ``output_channels``, ``O`` itself, where the channels share some; decoders ask :func:`output_channels`.
    """

    def __call__(self, outputs: Tensor) -> Distribution: ...


class Bindable(Protocol):
    """A prior that needs the inference network (VampPrior) defines ``bind``; wiring the model calls it."""

    def bind(self, infer: Callable[[Tensor], Distribution]) -> None:
        """Keep ``infer``: ``x [B, *X] -> q(z|x)``."""
        ...


class Hierarchical(Protocol):
    """A posterior over several levels of latents defines ``top``; ``model.infer_top`` calls it.

    An encoder whose top level has features of its own may define ``top(x)``, which computes these alone.
    """

    def top(self, h: Tensor, progress: Progress | None = None) -> Distribution:
        """Return ``q(z_top|x)``, batch ``[B]``, for features ``h [B, *H]``, or those of the encoder's ``top``."""
        ...


class TopBindable(Protocol):
    """A prior over several levels whose top may need the inference network defines ``bind_top``; wiring the model calls
    it.
    """

    def bind_top(self, infer_top: Callable[[Tensor], Distribution]) -> None:
        """Keep ``infer_top``: ``x [B, *X] -> q(z_top|x)``."""
        ...


class DataInitialized(Protocol):
    """A part that needs data before the first step defines ``initialize``.

    ``model.initialize(batch)`` calls it once, encoder before posterior before prior before decoder, on what the part
    will receive in training: the encoder gets ``x [B, *X]``, the posterior ``h [B, *H]``, the prior ``x``, the decoder
    ``(z, x)`` with ``z [B, *D]``.
    A prior with an attribute ``stored_examples`` above 0 gets so many examples as a :class:`Stored` split keeps them.
    """

    def initialize(self, *inputs: Tensor) -> None:
        """Set parameters from data; runs without gradients."""
        ...


def output_channels(likelihood: nn.Module, data_channels: int) -> int:
    """Return how many numbers a decoder is to put out at each position of data with ``data_channels`` channels."""
    own = getattr(likelihood, "output_channels", None)
    return cast(int, likelihood.outputs_per_value) * data_channels if own is None else cast(int, own)
