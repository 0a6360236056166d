"""Checks of data sources: what they say of themselves, and batches that can be repeated, skipped and shared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, cast

import torch
from torch import Tensor
from uncollapse.config import DataConfig
from uncollapse.errors import DataError, MissingExtraError
from uncollapse.protocols import Batch, DataSource, DataSpec, SpecialTokens, Split, count_batches

from .case import Case
from .contexts import outside_support
from .report import NotApplicable, expect
from .tensors import expect_shape

__all__ = ["DATA_CHECKS"]

SPLITS = ("train", "validation", "test")
FEW = 4
"""Batches that are compared; sets may be large."""


def _build(case: Case) -> DataSource:
    try:
        return cast(DataConfig, case.config).build(0)
    except (DataError, MissingExtraError) as error:
        raise NotApplicable(f"the data are not here: {error}") from error


def _source(case: Case) -> DataSource:
    if "source" not in case.memory:
        case.memory["source"] = _build(case)
    source: DataSource = case.memory["source"]
    return source


def _splits(source: DataSource) -> list[tuple[str, Split]]:
    return [(name, getattr(source, name)) for name in SPLITS]


def _batch_size(split: Split) -> int:
    """Return an even size that gives a few batches, and a shorter one at the end."""
    return 2 * max(1, min(len(split) // 9, 64))


def _few(batches: Iterable[Batch], count: int = FEW) -> list[Batch]:
    return list(islice(batches, count))


def _tensors(batch: Batch) -> list[Tensor]:
    return [t for t in (batch.x, batch.labels, batch.mask) if t is not None]


def _same(a: Sequence[Batch], b: Sequence[Batch]) -> bool:
    if len(a) != len(b):
        return False
    pairs = zip(a, b, strict=True)
    return all(
        len(_tensors(p)) == len(_tensors(q)) and all(map(torch.equal, _tensors(p), _tensors(q))) for p, q in pairs
    )


def data_spec(case: Case) -> None:
    """Examples have the shape, the support and the classes that the source states."""
    source = _source(case)
    spec = source.spec
    expect(all(n > 0 for n in spec.event_shape), f"event_shape: expected positive sizes, found {spec.event_shape}")
    tokens = spec.support == "tokens"
    expect(not tokens or bool(spec.vocabulary_size), "vocabulary_size: expected a number for tokens, found none")
    for name in SPLITS:
        split: Split = getattr(source, name)
        expect(split.spec == spec, f"{name}: its spec {split.spec} is not the source's {spec}")
        expect(len(split) > 0, f"{name}: expected examples, found none")
        size = _batch_size(split)
        for batch in _few(split.batches(size, shuffle=True)):
            if spec.special is None:
                expect_shape(f"{name}: one example", batch.x.shape[1:], spec.event_shape)
            else:
                _expect_texts(name, batch, spec)
            floating = batch.x.is_floating_point()
            expect(floating != tokens, f"{name}: expected {'integers' if tokens else 'floats'}, found {batch.x.dtype}")
            wrong = outside_support(batch.x, spec)
            expect(not wrong, f"{name}: support {spec.support!r}: {wrong}")
            _expect_labels(name, batch, spec.classes)


def _expect_texts(name: str, batch: Batch, spec: DataSpec) -> None:
    """Texts are as wide as the longest one or wider, end in ``end`` and go on in ``padding``; a mask says the same."""
    x, special = batch.x, cast(SpecialTokens, spec.special)
    longest = spec.event_shape[0]
    expect(x.dim() == 2 and 1 <= x.shape[1] <= longest, f"{name}: expected [B, 1 to {longest}], found {tuple(x.shape)}")
    real = x != special.padding
    ends = x == special.end
    fine = (ends.sum(1) == 1) & (real.sum(1) == 1 + ends.int().argmax(1))
    fine &= (real.int().diff(dim=1) <= 0).all(1) & (x != special.start).all(1)
    expect(bool(fine.all()), f"{name}: expected w1 … wn </s> <pad> …, found {x[~fine][:1].tolist()}")
    marked = batch.mask is None or torch.equal(batch.mask, real)
    expect(marked, f"{name}: the mask is not True at real tokens and False at padding")


def _expect_labels(name: str, batch: Batch, classes: int | None) -> None:
    if classes is None:
        return
    labels: Any = batch.labels
    expect(labels is not None, f"{name}: the spec states {classes} classes, but there are no labels")
    expect_shape(f"{name}: labels", labels.shape, (len(batch),))
    fine = not labels.is_floating_point() and int(labels.min()) >= 0 and int(labels.max()) < classes
    expect(fine, f"{name}: expected integer labels in 0..{classes - 1}, found {labels.unique().tolist()[:20]}")


def data_covers_split(case: Case) -> None:
    """An epoch holds every example once; with ``drop_last`` only full batches, as many as the split says."""
    for name, split in _splits(_source(case)):
        size = max(_batch_size(split), -(-len(split) // 7))
        counts = [len(b) for b in split.batches(size, shuffle=True)]
        total = sum(counts)
        expect(total == len(split), f"{name}: expected {len(split)} examples in an epoch, found {total}")
        full = [len(b) for b in split.batches(size, drop_last=True)]
        expected = [size] * count_batches(split, size, drop_last=True)
        expect(full == expected, f"{name}: drop_last: expected {len(expected)} full batches of {size}, found {full}")


def data_deterministic(case: Case) -> None:
    """The same arguments give the same batches, whatever came before; a source built again gives them too."""
    again = dict(_splits(_build(case)))
    for name, split in _splits(_source(case)):
        size = _batch_size(split)
        first = _few(split.batches(size, epoch=1, shuffle=True))
        _few(split.batches(size, epoch=5, shuffle=True))
        torch.manual_seed(123)
        second = _few(split.batches(size, epoch=1, shuffle=True))
        expect(_same(first, second), f"{name}: the same arguments gave other batches after other calls")
        rebuilt = _few(again[name].batches(size, epoch=1, shuffle=True))
        expect(_same(first, rebuilt), f"{name}: a source built with the same seed gives other batches")


def data_leaves_random_state(case: Case) -> None:
    """Reading batches draws nothing from the global generator, which belongs to the model."""
    for name, split in _splits(_source(case)):
        before = torch.random.get_rng_state()
        _few(split.batches(_batch_size(split), epoch=2, shuffle=True))
        untouched = torch.equal(before, torch.random.get_rng_state())
        expect(untouched, f"{name}: torch's global random state moved while batches were read")


def data_shuffles(case: Case) -> None:
    """Epochs differ in order when shuffled."""
    split = _source(case).train
    size = _batch_size(split)
    one, other = (_few(split.batches(size, epoch=epoch, shuffle=True)) for epoch in (0, 1))
    expect(len(split) < 4 or not _same(one, other), "train: two shuffled epochs have the same order")


def data_start(case: Case) -> None:
    """``start`` skips exactly that many batches."""
    for name, split in _splits(_source(case)):
        size = _batch_size(split)
        whole = _few(split.batches(size, epoch=2, shuffle=True), FEW + 2)
        rest = _few(split.batches(size, epoch=2, shuffle=True, start=2), FEW)
        expect(_same(whole[2:], rest), f"{name}: start=2 does not give the batches from the third on")


def data_shares(case: Case) -> None:
    """Two processes get halves of the same global batches: laid end to end they are the batch."""
    for name, split in _splits(_source(case)):
        size = _batch_size(split)
        whole = _few(split.batches(size, epoch=3, shuffle=True, drop_last=True))
        shares = [
            _few(split.batches(size, epoch=3, shuffle=True, drop_last=True, rank=rank, world_size=2)) for rank in (0, 1)
        ]
        sizes = {len(b) for share in shares for b in share}
        expect(sizes == {size // 2}, f"{name}: expected shares of {size // 2} examples, found {sorted(sizes)}")
        joined = [
            Batch(*(None if a is None or b is None else torch.cat([a, b]) for a, b in _fields(p, q)))  # type: ignore[arg-type]
            for p, q in zip(*shares, strict=True)
        ]
        expect(_same(whole, joined), f"{name}: two processes' shares together are not the global batches")


def _fields(p: Batch, q: Batch) -> list[tuple[Tensor | None, Tensor | None]]:
    return [(p.x, q.x), (p.labels, q.labels), (p.mask, q.mask)]


DATA_CHECKS = (
    data_spec, data_covers_split, data_deterministic, data_leaves_random_state, data_shuffles, data_start, data_shares,
)  # fmt: skip
