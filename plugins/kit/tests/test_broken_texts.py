"""The kit finds what is wrong with broken sources of texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from uncollapse.config import DataConfig
from uncollapse.data import InMemorySource
from uncollapse.protocols import Batch, DataSpec, SpecialTokens
from uncollapse_text.data import TextSplit

Failing = Callable[..., set[str]]
SPEC = DataSpec((6,), "tokens", classes=2, vocabulary_size=20, special=SpecialTokens())
FAULTS: dict[str, Callable[[Batch], Batch]] = {
    "none": lambda batch: batch,
    "start": lambda batch: replace(batch, x=torch.cat([torch.ones_like(batch.x[:, :1]), batch.x[:, :-1]], 1)),
    "no end": lambda batch: replace(batch, x=batch.x.masked_fill(batch.x == 2, 5)),
    "padding inside": lambda batch: replace(batch, x=batch.x.masked_fill(batch.x == 4, 0)),
    "mask": lambda batch: replace(batch, mask=~batch.mask),
    "too wide": lambda batch: replace(batch, x=torch.nn.functional.pad(batch.x, (0, 9))),
}


class Split(TextSplit):
    """Texts with a fault in every batch, or one in the number of batches."""

    def __init__(self, fault: str) -> None:
        texts = [[4 + (i * 7 + j) % 16 for j in range(1 + i % 5)] for i in range(60)]
        super().__init__(texts, torch.arange(60) % 2, spec=SPEC, batching="padded")
        self.fault = fault

    def steps(self, batch_size: int, *, drop_last: bool = False, processes: int = 1) -> int:
        return super().steps(batch_size, drop_last=drop_last, processes=processes) + (self.fault == "steps")

    def batches(self, batch_size: int, **options: Any) -> Iterator[Batch]:
        return map(FAULTS.get(self.fault, FAULTS["none"]), super().batches(batch_size, **options))


@pytest.mark.parametrize(
    ("fault", "expected"),
    [("none", set()), ("steps", {"data_covers_split"}), *((f, {"data_spec"}) for f in FAULTS if f != "none")],
)
def test_texts(fault: str, expected: set[str], failing: Failing) -> None:
    assert failing(DataConfig, lambda seed: InMemorySource(*(Split(fault) for _ in range(3)))) == expected
