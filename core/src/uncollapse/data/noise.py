"""Repeatable noise: independent seeds for named streams, and fast Bernoulli draws."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

__all__ = ["binarize", "draw_fixed", "stream_seed"]

_LEVELS_OF_NOISE = 65536
_LOWEST_INT64 = -(2**63)
_CHUNK = 4096


def stream_seed(*parts: int | str) -> int:
    """Return a seed in ``0..2**63-1`` that depends on all ``parts``; different parts give unrelated seeds."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def binarize(
    values: Tensor, generator: torch.Generator, *, levels: int = 1, of: int | None = None, first: int = 0
) -> Tensor:
    """Draw 0 or 1 for every value, 1 with probability ``value / levels``.

    The noise has 16 bits: half the cost of ``torch.rand``, and a probability is off by less than 1/65,536; 0 and
    ``levels`` are exact, so binary data stay what they are.

    Args:
        values: ``[B, *X]`` in ``0..levels``, integers or floats.
        generator: On the device of ``values``.
        levels: The value that means probability 1.
        of: Examples of the batch that ``values`` is a share of; the noise is drawn for all of them, so that a share
            of a batch gets the noise that it would have got in the whole. By default ``B``.
        first: Position of the share in that batch.

    Returns:
        float32 ``[B, *X]``.
    """
    count = values.shape[0] if of is None else of
    size = values[0].numel() if values.shape[0] else 0
    words = torch.empty((count * size + 3) // 4, dtype=torch.int64, device=values.device)
    words.random_(_LOWEST_INT64, None, generator=generator)
    noise = words.view(torch.int16)[first * size : (first + values.shape[0]) * size].view(values.shape)
    # noise is uniform on -32768..32767, so the threshold is shifted by as much.
    threshold = values.to(torch.float32, copy=True).mul_(_LEVELS_OF_NOISE / levels).sub_(_LEVELS_OF_NOISE // 2)
    return torch.lt(noise.float(), threshold, out=threshold)


def draw_fixed(values: Tensor, seed: int, *, levels: int = 1, draws: int = 1) -> Tensor:
    """Return ``draws`` independent binarizations of ``values [N, *X]``, one after the other: uint8 ``[draws * N, *X]``.

    The first ones do not depend on how many follow.
    """
    generator = torch.Generator().manual_seed(seed)
    parts = [
        binarize(chunk, generator, levels=levels).to(torch.uint8)
        for _ in range(draws)
        for chunk in (values[i : i + _CHUNK] for i in range(0, len(values), _CHUNK))
    ]
    return torch.cat(parts)
