"""Batches of texts: of equal length or padded, repeatable, skipped and shared."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from uncollapse.data import TensorSplit
from uncollapse.errors import ConfigError, ShapeError
from uncollapse.protocols import Batch, DataSpec, SpecialTokens, count_batches, mixed
from uncollapse_text.data import TextSplit

SPECIAL = SpecialTokens(padding=0, start=1, end=2, unknown=3)
SPEC = DataSpec((7,), "tokens", classes=2, vocabulary_size=1000, special=SPECIAL)
GENERATOR = torch.Generator().manual_seed(0)
# 61 texts, each with a first token of its own; 1 to 6 tokens.
TEXTS = [[10 + i, *range(500, 500 + int(torch.randint(0, 6, (), generator=GENERATOR)))] for i in range(61)]


def split(batching: str = "equal_length", **options: object) -> TextSplit:
    return TextSplit(TEXTS, torch.arange(61) % 2, spec=SPEC, batching=batching, **options)


def read(batches: object) -> list[tuple[int, ...]]:
    """Return the texts of batches as they are, padding and all."""
    return [tuple(row) for batch in batches for row in batch.x.tolist()]


def content(row: tuple[int, ...]) -> list[int]:
    return list(row[: row.index(SPECIAL.end)])


def same(a: Batch, b: Batch) -> bool:
    masks = (a.mask is None and b.mask is None) or torch.equal(a.mask, b.mask)
    return torch.equal(a.x, b.x) and torch.equal(a.labels, b.labels) and masks


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("batching", ["equal_length", "padded"])
def test_every_text_comes_once_with_its_end_and_its_label(batching: str, shuffle: bool) -> None:
    batches = list(split(batching).batches(8, shuffle=shuffle))
    assert all(b.x.dtype == torch.int64 for b in batches)
    rows = read(batches)
    assert sorted(map(content, rows)) == sorted(TEXTS)
    labels = torch.cat([b.labels for b in batches]).tolist()
    assert all(label == (row[0] - 10) % 2 for row, label in zip(rows, labels, strict=True))
    for row in rows:
        assert set(row[row.index(SPECIAL.end) + 1 :]) <= {SPECIAL.padding}


def test_texts_of_a_batch_have_one_length_and_no_padding() -> None:
    batches = list(split().batches(8, shuffle=True))
    for batch in batches:
        assert batch.mask is None
        assert (batch.x[:, -1] == SPECIAL.end).all()
        assert not (batch.x == SPECIAL.padding).any()
    # At most one short batch of each length.
    short = Counter(b.x.shape[1] for b in batches if len(b) < 8)
    assert max(short.values()) == 1


def test_equal_length_fixes_the_composition_and_shuffles_the_order() -> None:
    def compositions(epoch: int, seed: int = 0, shuffle: bool = True) -> list[tuple[int, ...]]:
        return [tuple(b.x[:, 0].tolist()) for b in split(seed=seed).batches(4, epoch=epoch, shuffle=shuffle)]

    first, second = compositions(0), compositions(1)
    assert first != second
    assert sorted(first) == sorted(second) == sorted(compositions(0, shuffle=False))
    assert sorted(first) != sorted(compositions(0, seed=1))
    assert first == compositions(0)


def test_equal_length_unshuffled_goes_from_short_to_long() -> None:
    widths = [b.x.shape[1] for b in split().batches(4)]
    assert widths == sorted(widths)


def test_padded_is_as_wide_as_the_longest_and_the_mask_says_what_is_real() -> None:
    for batch in split("padded").batches(8, shuffle=True):
        assert torch.equal(batch.mask, batch.x != SPECIAL.padding)
        assert (batch.mask[:, -1]).any()


def test_padded_unshuffled_keeps_the_stored_order() -> None:
    assert [content(row) for row in read(split("padded").batches(8))] == TEXTS


def test_pools_save_padding_and_change_with_the_epoch() -> None:
    def padding(pool: int) -> int:
        return sum(int((~b.mask).sum()) for b in split("padded", pool=pool).batches(8, shuffle=True))

    assert padding(8) < 0.5 * padding(1)
    sets = [
        {tuple(sorted(b.x[:, 0].tolist())) for b in split("padded").batches(8, epoch=e, shuffle=True)} for e in (0, 1)
    ]
    assert sets[0] != sets[1]
    widths = [b.x.shape[1] for b in split("padded", pool=8).batches(8, shuffle=True)]
    assert widths != sorted(widths)


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("size", [3, 4, 8, 61])
@pytest.mark.parametrize("batching", ["equal_length", "padded"])
def test_steps_says_how_many_batches_there_are(batching: str, size: int, processes: int, drop_last: bool) -> None:
    texts = split(batching)
    steps = texts.steps(size, drop_last=drop_last, processes=processes)
    assert count_batches(texts, size, drop_last=drop_last, processes=processes) == steps
    if drop_last and steps == 0:
        with pytest.raises(ConfigError, match="there are no 61 texts of one length for a batch"):
            texts.batches(size, drop_last=True)
        return
    for rank in range(processes):
        found = list(texts.batches(size, shuffle=True, drop_last=drop_last, rank=rank, world_size=processes))
        assert len(found) == steps
        assert not drop_last or {len(b) for b in found} == {size // processes}


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("batching", ["equal_length", "padded"])
def test_start_skips_batches_without_changing_the_rest(batching: str, shuffle: bool) -> None:
    texts = split(batching)
    whole = list(texts.batches(4, epoch=2, shuffle=shuffle, rank=1, world_size=2))
    late = list(texts.batches(4, epoch=2, shuffle=shuffle, rank=1, world_size=2, start=3))
    assert len(late) == len(whole) - 3
    assert all(map(same, whole[3:], late))


@pytest.mark.parametrize("batching", ["equal_length", "padded"])
@pytest.mark.parametrize("world", [2, 3, 4])
def test_shares_of_several_processes_make_the_batches_of_one(batching: str, world: int) -> None:
    texts = split(batching)
    alone = [b for b in texts.batches(12, epoch=1, shuffle=True) if len(b) >= world]
    shares = [list(texts.batches(12, epoch=1, shuffle=True, rank=r, world_size=world)) for r in range(world)]
    assert {len(share) for share in shares} == {len(alone)}
    for position, whole in enumerate(alone):
        parts = [share[position] for share in shares]
        kept = len(whole) - len(whole) % world
        assert {len(p) for p in parts} == {kept // world}
        # The width is that of the whole batch, whatever the share's own longest text.
        assert torch.equal(torch.cat([p.x for p in parts]), whole.x[:kept])
        assert torch.equal(torch.cat([p.labels for p in parts]), whole.labels[:kept])


def test_batches_do_not_depend_on_what_came_before_nor_touch_the_global_generator() -> None:
    texts = split()
    first = list(texts.batches(4, epoch=3, shuffle=True))
    list(texts.batches(7, epoch=5, shuffle=True))
    state = torch.get_rng_state()
    again = list(texts.batches(4, epoch=3, shuffle=True))
    assert all(map(same, first, again))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("size", [3, 4, 10, 21])
def test_batches_of_other_splits_are_counted_from_their_size(size: int, processes: int, drop_last: bool) -> None:
    tensors = TensorSplit(torch.rand(21, 2))
    found = list(tensors.batches(size, drop_last=drop_last, world_size=processes))
    assert count_batches(tensors, size, drop_last=drop_last, processes=processes) == len(found)
    assert mixed(tensors) is tensors


def test_mixed_batches_are_random_samples_whatever_the_batching() -> None:
    texts = split()
    drawn = mixed(texts)
    lengths = [[len(content(row)) for row in read([b])] for b in drawn.batches(20, shuffle=True)]
    assert all(len(set(of_batch)) > 2 for of_batch in lengths[:3])
    # Inside a batch the texts are in no order either: an evaluation may use the first ones only.
    assert lengths[0] != sorted(lengths[0])
    assert lengths[0] != sorted(lengths[0], reverse=True)
    assert sorted(map(content, read(drawn.batches(20, shuffle=True)))) == sorted(TEXTS)
    assert next(texts.batches(20)).mask is None


@pytest.mark.parametrize("batching", ["equal_length", "padded"])
def test_batches_that_are_too_small_for_somebody_are_left_out(batching: str) -> None:
    texts, every = split(batching, smallest=6), split(batching)
    found = list(texts.batches(8, shuffle=True))
    expected = [b for b in every.batches(8, shuffle=True) if len(b) >= 6]
    assert len(list(every.batches(8))) > len(expected) == len(found) == texts.steps(8)
    assert all(map(same, found, expected))
    assert sum(len(b) for b in mixed(texts).batches(8)) == 61


def test_a_batch_smaller_than_the_processes_is_an_error() -> None:
    with pytest.raises(ConfigError, match="cannot be shared by 4 processes"):
        split().batches(3, world_size=4)


@pytest.mark.parametrize(
    ("texts", "labels", "problem"),
    [
        ([[5], []], None, "expected 1 to 6 tokens, found 0 to 1"),
        ([[5] * 7], None, "expected 1 to 6 tokens, found 7 to 7"),
        ([[5], [6]], torch.zeros(3), r"labels: expected shape \(2,\)"),
    ],
)
def test_what_no_split_can_hold(texts: list[list[int]], labels: torch.Tensor | None, problem: str) -> None:
    with pytest.raises(ShapeError, match=problem):
        TextSplit(texts, labels, spec=SPEC)


def test_a_split_of_texts_needs_special_tokens() -> None:
    with pytest.raises(ShapeError, match="expected texts with special tokens"):
        TextSplit([[5]], spec=DataSpec((7,), "tokens", vocabulary_size=9))
