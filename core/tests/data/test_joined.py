"""A batch of a single example is joined to its neighbour, since pairs have no value for it."""

from __future__ import annotations

import pytest
import torch
from uncollapse import Batch
from uncollapse.protocols import DataSpec, SpecialTokens, joined

IMAGES = DataSpec((1, 2, 2), "binary", classes=3)
TEXTS = DataSpec((9,), "tokens", vocabulary_size=9, special=SpecialTokens(padding=7))


def sized(*sizes: int) -> list[Batch]:
    count = sum(sizes)
    x, labels = torch.arange(4.0 * count).reshape(count, 1, 2, 2), torch.arange(count)
    return [Batch(*pair) for pair in zip(x.split(list(sizes)), labels.split(list(sizes)), strict=True)]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((4, 4, 1), [4, 5]),
        ((4, 4, 2), [4, 4, 2]),
        ((1, 4), [5]),
        ((4, 1, 4), [5, 4]),
        ((1, 1, 1), [3]),
        ((1,), [1]),
        ((), []),
    ],
)
def test_no_example_is_alone_and_none_is_lost(sizes: tuple[int, ...], expected: list[int]) -> None:
    batches = sized(*sizes)
    found = list(joined(batches, IMAGES))
    assert [len(batch) for batch in found] == expected
    if sizes:
        torch.testing.assert_close(torch.cat([b.x for b in found]), torch.cat([b.x for b in batches]))
        assert torch.cat([b.labels for b in found]).tolist() == list(range(sum(sizes)))


def test_texts_of_another_width_are_padded() -> None:
    long = Batch(torch.ones(2, 5, dtype=torch.long), mask=torch.ones(2, 5, dtype=torch.bool))
    short = Batch(torch.full((1, 3), 2), mask=torch.ones(1, 3, dtype=torch.bool))
    (whole,) = joined([long, short], TEXTS)
    assert whole.x[2].tolist() == [2, 2, 2, 7, 7]
    assert whole.mask is not None
    assert whole.mask[2].tolist() == [True, True, True, False, False]
    assert whole.labels is None
