"""Free bits: a floor under the rate, below which it is not pushed down further."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

__all__ = ["FREE_BITS_VARIANTS", "FreeBits", "FreeBitsVariant", "free_bits"]

FreeBitsVariant = Literal["batch_total", "batch_per_dimension", "example_total", "example_per_dimension"]
"""What a floor is under; see :func:`free_bits`."""
FREE_BITS_VARIANTS: tuple[str, ...] = get_args(FreeBitsVariant)
"""The names in :data:`FreeBitsVariant`."""


@dataclass(frozen=True)
class FreeBits:
    """A floor under the rate.

    Args:
        nats: The floor, in nats: of the whole latent for the ``total`` variants, of one latent dimension for the
            ``per_dimension`` variants.
        variant: What is clamped; see :func:`free_bits`.
    """

    nats: float
    variant: FreeBitsVariant = "batch_total"


def free_bits(rate: Tensor, nats: float, variant: FreeBitsVariant = "batch_total") -> Tensor:
    """Return the batch's rate with a floor: a scalar, nats per example. There is no gradient below the floor.

    Kingma et al., Improved Variational Inference with Inverse Autoregressive Flow (2016), eq. 15,
    https://arxiv.org/abs/1606.04934, and what codes made of it:

    ========================= =========== ==============================================================
    variant                   ``rate``    value
    ========================= =========== ==============================================================
    ``batch_total``           ``[B]``     ``max(mean_b KL_b, nats)``: MAE's released code
    ``batch_per_dimension``   ``[B, *D]`` ``sum_d max(mean_b KL_bd, nats)``: the paper's eq. 15, DU-VAE
    ``example_total``         ``[B]``     ``mean_b max(KL_b, nats)``
    ``example_per_dimension`` ``[B, *D]`` ``mean_b sum_d max(KL_bd, nats)``
    ========================= =========== ==============================================================

    Raises:
        ValueError: ``variant`` is none of these.
    """
    if variant == "batch_total":
        return rate.mean().clamp(min=nats)
    if variant == "example_total":
        return rate.clamp(min=nats).mean()
    if variant == "batch_per_dimension":
        return rate.mean(0).clamp(min=nats).sum()
    if variant == "example_per_dimension":
        return rate.clamp(min=nats).flatten(1).sum(1).mean()
    raise ValueError(f"variant must be one of {', '.join(FREE_BITS_VARIANTS)}; found {variant!r}")
