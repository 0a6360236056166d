"""The plain records that parts exchange: batches, progress, penalties, estimates, and what data look like."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, cast

import torch
from torch import Tensor

__all__ = [
    "Batch",
    "DataSpec",
    "Estimate",
    "Estimates",
    "Penalty",
    "Progress",
    "Scores",
    "SpecialTokens",
    "Support",
    "finished",
]

Support = Literal["binary", "unit_interval", "bytes", "real", "tokens"]
"""Where the values of data lie; see :class:`DataSpec`."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples that are processed together.

    Args:
        x: Data ``[B, *X]``.
        labels: Class indices ``[B]``, or None.
        mask: True where a token is real ``[B, T]``, or None where every position counts.
    """

    x: Tensor
    labels: Tensor | None = None
    mask: Tensor | None = None

    def __len__(self) -> int:
        return int(self.x.shape[0])

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on ``device``."""
        x, labels, mask = (
            None if t is None else t.to(device, non_blocking=True) for t in (self.x, self.labels, self.mask)
        )
        return Batch(cast(Tensor, x), labels, mask)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the run stands when a step begins.

    Args:
        step: Optimizer steps done so far (0 in the first step).
        steps_per_epoch: Steps of one pass over the training data.
        total_steps: Steps of the whole run; None where nobody knows.
        final: True where every schedule is to answer its final value: evaluation and model selection.
        of_data: False where what is encoded are no data, and no part is to learn from it what data are like.
    """

    step: int = 0
    steps_per_epoch: int = 1
    total_steps: int | None = None
    final: bool = False
    of_data: bool = True

    @property
    def epoch(self) -> int:
        """Whole epochs done so far (0 during the first)."""
        return self.step // self.steps_per_epoch

    @classmethod
    def at_end(cls) -> Progress:
        """Return the progress at which schedules give their final value."""
        return cls(final=True)


def finished(progress: Progress) -> Progress:
    """Return ``progress`` with every schedule at its final value."""
    return replace(progress, final=True)


@dataclass(frozen=True, slots=True)
class Penalty:
    """What a regularizer adds to the loss.

    Args:
        total: Scalar to add, nats per example; weighted already.
        terms: Named parts, unweighted, each a scalar or per example ``[B]``; logged as ``<regularizer>/<term>``.
    """

    total: Tensor
    terms: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured number.

    Args:
        value: The number.
        unit: ``"nats"``, ``"bits/dim"``, ``"units"``, ``"accuracy"``, …
        standard_error: Standard error of ``value``; None where there is none to state (a count, say).
        count: Examples (or draws) behind the number.
        per_dimension: The same quantity per latent dimension ``D``, where that makes sense.
        note: What limits the number: a cap, the number of importance samples.
        per_dimension_error: Standard errors of ``per_dimension``.
    """

    value: float
    unit: str
    standard_error: float | None = None
    count: int | None = None
    per_dimension: tuple[float, ...] | None = None
    note: str = ""
    per_dimension_error: tuple[float, ...] | None = None

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Estimate:
        """Return what ``results.json`` holds as a mapping, in which a number that is not finite is null."""
        known = {f.name: record[f.name] for f in fields(cls) if f.name in record}
        for name in ("per_dimension", "per_dimension_error"):
            if known.get(name) is not None:
                known[name] = tuple(math.nan if v is None else float(v) for v in known[name])
        return cls(**{**known, "value": math.nan if known["value"] is None else float(known["value"])})


Estimates = Mapping[str, Estimate]
"""What an estimator returns: estimates by name."""

Scores = Mapping[str, Estimate]
"""What a probe returns: estimates by name."""


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Ids of the tokens that no text contains.

    Args:
        padding: Fills up a short text; it has no likelihood.
        start: What a decoder is given before the first token; data do not hold it.
        end: The last token of every text; it has a likelihood like any other.
        unknown: Stands for tokens outside the vocabulary.
    """

    padding: int = 0
    start: int = 1
    end: int = 2
    unknown: int = 3


@dataclass(frozen=True, slots=True)
class DataSpec:
    """What parts need to know of the data.

    Args:
        event_shape: Shape ``X`` of one example, ``(1, 28, 28)`` say.
        support: Where values lie. ``binary`` {0, 1}; ``unit_interval`` [0, 1]; ``bytes`` integers 0..255 as float
            tensors divided by 255 (on the grid k/255); ``real``; ``tokens`` integers below ``vocabulary_size``.
        classes: Number of label classes, or None without labels.
        vocabulary_size: For tokens.
        special: For texts ``[B, T]``, which end in ``end`` and go on in ``padding``; batches may be narrower than
            ``event_shape``, the longest text. None for tokens of which all are data.
    """

    event_shape: tuple[int, ...]
    support: Support
    classes: int | None = None
    vocabulary_size: int | None = None
    special: SpecialTokens | None = None
