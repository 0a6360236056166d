"""How examples are divided into training, validation and test sets."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..errors import ConfigError
from .noise import stream_seed

__all__ = ["HeldOut", "hold_out"]

HeldOut = Literal["random", "stratified", "last"]
"""``random`` examples, random with every class's share kept (``stratified``), or the ``last`` ones of the file."""


def hold_out(
    examples: int,
    count: int,
    how: HeldOut,
    *,
    seed: int,
    part: str,
    place: str,
    labels: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Divide ``examples`` into those that stay and ``count`` that are held out.

    Args:
        examples: Size of the set.
        count: Examples to hold out.
        how: Which.
        seed: Of the choice, together with ``part``.
        part: Name of the held-out set.
        place: Field of the config that holds ``count``.
        labels: Class indices ``[N]``, for ``stratified``.

    Returns:
        Indices of both, ``[examples - count]`` (in random order unless ``last``) and ``[count]``.

    Raises:
        ConfigError: Nothing would be held out or stay, or ``stratified`` has no labels.
    """
    if not 0 < count < examples:
        raise ConfigError(
            f"{place}: {count} examples cannot be held out for {part}, there are {examples}; use 1 to {examples - 1}"
        )
    if how == "last":
        order = torch.arange(examples)
        return order[: examples - count], order[examples - count :]
    generator = torch.Generator().manual_seed(stream_seed(seed, "hold out", part))
    order = torch.randperm(examples, generator=generator)
    if how == "stratified":
        if labels is None:
            raise ConfigError(f"{place}: a stratified {part} set needs labels, and the data have none")
        order = _interleaved(order, labels)
    return order[count:], order[:count]


def _interleaved(order: Tensor, labels: Tensor) -> Tensor:
    """Sort ``order`` so that every stretch of it has each class in its share of the whole."""
    shuffled = labels[order]
    position = torch.empty(len(order), dtype=torch.float64)
    for label in range(int(shuffled.max()) + 1):
        members = (shuffled == label).nonzero()[:, 0]
        position[members] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    return order[position.argsort(stable=True)]
