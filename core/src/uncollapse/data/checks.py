"""What data must be before a model sees them: of one shape, finite, inside the declared support."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import DataError
from ..protocols import Support

__all__ = ["check_labels", "check_same_shape", "check_values"]

_CHUNK = 4096
_GRID_TOLERANCE = 1e-3

_ALLOWED: dict[str, str] = {
    "binary": "0 and 1",
    "unit_interval": "0 to 1",
    "bytes": "whole numbers 0 to 255, or those divided by 255",
    "real": "finite numbers",
}


def check_values(x: Tensor, support: Support, place: str, part: str) -> None:
    """Check that a set is not empty and that its values are finite and lie in ``support``.

    Args:
        x: Values ``[N, *X]`` as batches will hold them (bytes already divided by 255).
        support: What the source declares.
        place: Field of the config to blame, ``data.path`` say.
        part: Name of the set, ``train`` say.

    Raises:
        DataError: With the count, an example, what is allowed and the likely fix.
    """
    if x.numel() == 0:
        raise DataError(f"{place}: the {part} set is empty, shape {tuple(x.shape)}; give it at least one example")
    found = _find(x, lambda values: ~torch.isfinite(values))
    if found is not None:
        raise DataError(
            f"{place}: {found.count} of {x.numel()} values of the {part} set are not finite, such as {found.value} in "
            f"example {found.example}; remove or replace them"
        )
    found = _find(x, lambda values: _outside(values, support))
    if found is not None:
        raise DataError(
            f"{place}: {found.count} of {x.numel()} values of the {part} set are outside the support {support!r}, "
            f"such as {found.value:g} in example {found.example}; allowed: {_ALLOWED[support]}; {_fix(x, support)}"
        )


@dataclass(frozen=True)
class _Found:
    count: int
    example: int
    value: float


def _find(x: Tensor, wrong: Callable[[Tensor], Tensor]) -> _Found | None:
    count, first = 0, None
    # By chunks: masks of a whole image set would need as much memory again as the set itself.
    for begin in range(0, len(x), _CHUNK):
        chunk = x[begin : begin + _CHUNK]
        bad = wrong(chunk)
        here = int(bad.sum())
        if here and first is None:
            row = int(bad.flatten(1).any(1).nonzero()[0])
            first = (begin + row, float(chunk[row][bad[row]][0]))
        count += here
    return None if first is None else _Found(count, *first)


def _outside(x: Tensor, support: Support) -> Tensor:
    if support == "binary":
        return (x != 0) & (x != 1)
    if support == "unit_interval":
        return (x < 0) | (x > 1)
    if support == "bytes":
        scaled = x * 255
        return (x < 0) | (x > 1) | ((scaled - scaled.round()).abs() > _GRID_TOLERANCE)
    return torch.zeros_like(x, dtype=torch.bool)


def _fix(x: Tensor, support: Support) -> str:
    low, high = float(x.min()), float(x.max())
    if low < 0 or high > 255:
        return "scale the data, or declare support: real"
    if high > 1:
        return "divide by 255, or declare support: bytes"
    if support == "binary":
        return "declare support: unit_interval and set binarize: dynamic, static or threshold"
    return "declare support: unit_interval or support: real"


def check_labels(labels: Tensor | None, examples: int, place: str, part: str) -> None:
    """Check that a set has one label for every example, and that labels are whole numbers from 0.

    Raises:
        DataError: The counts differ, or a label is negative or no whole number.
    """
    if labels is None:
        return
    if labels.dim() != 1 or labels.shape[0] != examples:
        raise DataError(
            f"{place}: the {part} set has {examples} examples but labels of shape {tuple(labels.shape)}; give one "
            "label for each example"
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise DataError(
            f"{place}: labels of the {part} set are {str(labels.dtype).removeprefix('torch.')}; expected class indices "
            "0, 1, … as integers"
        )
    if int(labels.min()) < 0:
        raise DataError(
            f"{place}: labels of the {part} set start at {int(labels.min())}; expected class indices 0, 1, …"
        )


def check_same_shape(shapes: dict[str, tuple[int, ...]], place: str) -> None:
    """Check that all sets have the event shape of the training set.

    Raises:
        DataError: One differs.
    """
    for part, shape in shapes.items():
        if shape != shapes["train"]:
            raise DataError(
                f"{place}: examples of the {part} set have shape {shape}, those of the train set {shapes['train']}; "
                "they must be equal"
            )
