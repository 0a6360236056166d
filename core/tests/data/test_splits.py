"""Batches of tensors: order, noise, shares."""

from __future__ import annotations

import pytest
import torch
from uncollapse.capabilities import supports
from uncollapse.data import InMemorySource, TensorSplit
from uncollapse.data.noise import binarize, draw_fixed, stream_seed
from uncollapse.errors import ConfigError, ShapeError
from uncollapse.protocols import DataSpec, Stored


def grey(count: int = 23, **options: object) -> TensorSplit:
    x = torch.randint(0, 256, (count, 1, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return TensorSplit(x, torch.arange(count) % 3, support="bytes", levels=255, **options)


def gather(split: TensorSplit, size: int, **options: object) -> tuple[torch.Tensor, torch.Tensor]:
    batches = list(split.batches(size, **options))
    return torch.cat([b.x for b in batches]), torch.cat([b.labels for b in batches])


def test_batches_hold_every_example_once_in_the_stored_order() -> None:
    split = grey()
    sizes = [len(b) for b in split.batches(5)]
    assert sizes == [5, 5, 5, 5, 3]
    x, labels = gather(split, 5)
    assert torch.equal((x * 255).round().byte(), split._x)
    assert torch.equal(labels, split.labels)
    assert x.dtype == torch.float32
    assert split.spec == DataSpec((1, 4, 5), "bytes", 3)


def test_bytes_lie_on_the_grid_exactly() -> None:
    x, _ = gather(grey(), 23)
    grid = torch.arange(256, dtype=torch.float32) / 255
    assert torch.isin(x, grid).all()


def test_stored_examples_are_neither_shuffled_nor_drawn() -> None:
    for split in (grey(), grey(dynamic=True)):
        assert supports(split, Stored)
        stored = split.stored(7)
        assert torch.equal(stored, split._x[:7].float() / 255)
        assert len(split.stored(100)) == 23
        # A copy: whoever changes it must not change the data.
        stored.zero_()
        assert bool(split.stored(7).any())
    reals = TensorSplit(torch.randn(5, 2))
    reals.stored(5).zero_()
    assert bool(reals.stored(5).all())


def test_drop_last_leaves_the_short_batch_out() -> None:
    assert [len(b) for b in grey().batches(5, drop_last=True)] == [5, 5, 5, 5]


def test_shuffle_is_a_permutation_that_changes_with_epoch_and_seed_only() -> None:
    x = torch.arange(50.0)[:, None]
    split = TensorSplit(x, seed=3)

    def order(split: TensorSplit, **options: object) -> list[float]:
        return torch.cat([b.x for b in split.batches(7, shuffle=True, **options)])[:, 0].tolist()

    first = order(split, epoch=0)
    assert sorted(first) == list(range(50))
    assert first != sorted(first)
    assert first == order(split, epoch=0) == order(TensorSplit(x, seed=3), epoch=0)
    assert first != order(split, epoch=1)
    assert first != order(TensorSplit(x, seed=4), epoch=0)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("dynamic", [False, True])
def test_start_skips_batches_without_changing_the_rest(shuffle: bool, dynamic: bool) -> None:
    split = grey(dynamic=dynamic)
    whole = list(split.batches(4, epoch=2, shuffle=shuffle))
    late = list(split.batches(4, epoch=2, shuffle=shuffle, start=3))
    assert len(late) == len(whole) - 3
    for a, b in zip(whole[3:], late, strict=True):
        assert torch.equal(a.x, b.x)
        assert torch.equal(a.labels, b.labels)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("world", [2, 3, 4])
def test_shares_of_several_processes_make_the_batches_of_one(world: int, dynamic: bool) -> None:
    split = grey(dynamic=dynamic)
    alone = list(split.batches(12, epoch=1, shuffle=True))
    shares = [list(split.batches(12, epoch=1, shuffle=True, rank=r, world_size=world)) for r in range(world)]
    for position, whole in enumerate(alone):
        parts = [share[position] for share in shares]
        assert len({len(p) for p in parts}) == 1
        kept = len(whole) - len(whole) % world
        assert torch.equal(torch.cat([p.x for p in parts]), whole.x[:kept])
        assert torch.equal(torch.cat([p.labels for p in parts]), whole.labels[:kept])


def test_a_batch_with_fewer_examples_than_processes_is_left_out_everywhere() -> None:
    split = grey(9)
    assert [[len(b) for b in split.batches(4, rank=r, world_size=2)] for r in (0, 1)] == [[2, 2], [2, 2]]


def test_dynamic_binarization_is_repeatable_and_fresh_in_every_batch_and_epoch() -> None:
    split = TensorSplit(torch.full((8, 100), 0.5), dynamic=True, seed=5)
    a, b = (batch.x for batch in split.batches(4))
    assert split.spec.support == "binary"
    assert set(a.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(a, b)
    assert torch.equal(a, next(split.batches(4)).x)
    assert not torch.equal(a, next(split.batches(4, epoch=1)).x)
    assert not torch.equal(a, next(TensorSplit(torch.full((8, 100), 0.5), dynamic=True, seed=6).batches(4)).x)


@pytest.mark.parametrize("levels", [1, 16, 255])
def test_frequencies_of_ones_are_the_grey_values(levels: int) -> None:
    values = torch.linspace(0, levels, 17)
    if levels > 1:
        values = values.round().byte()
    count = 20_000
    drawn = binarize(values.expand(count, -1), torch.Generator().manual_seed(0), levels=levels)
    expected = values.float() / levels
    error = (drawn.mean(0) - expected).abs()
    deviation = (expected * (1 - expected) / count).sqrt()
    assert (error <= 4 * deviation).all()
    # 0 and 1 are no probabilities but facts.
    assert drawn[:, 0].sum() == 0
    assert drawn[:, -1].sum() == count


def test_noise_of_neighbouring_values_is_independent() -> None:
    drawn = binarize(torch.full((4000, 8), 0.5), torch.Generator().manual_seed(0))
    correlation = torch.corrcoef(drawn.T) - torch.eye(8)
    assert correlation.abs().max() < 4 / 4000**0.5


def test_binarize_leaves_its_argument_alone() -> None:
    values = torch.full((3, 4), 0.25)
    binarize(values, torch.Generator())
    assert torch.equal(values, torch.full((3, 4), 0.25))


def test_fixed_draws_are_repeatable_and_their_beginning_does_not_depend_on_their_number() -> None:
    values = torch.rand(10, 6)
    five = draw_fixed(values, 3, draws=5)
    assert five.shape == (50, 6)
    assert five.dtype == torch.uint8
    assert torch.equal(five[:10], draw_fixed(values, 3))
    assert not torch.equal(five[:10], five[10:20])
    assert not torch.equal(five[:10], draw_fixed(values, 4))


def test_seeds_of_streams_differ() -> None:
    seeds = {stream_seed(a, b, c) for a in range(4) for b in ("order", "binarize") for c in range(50)}
    assert len(seeds) == 400
    assert stream_seed(1, "order", 2) == stream_seed(1, "order", 2)
    assert all(0 <= s < 2**63 for s in seeds)


def test_batches_never_alias_the_stored_data() -> None:
    split = TensorSplit(torch.ones(4, 2))
    next(split.batches(4)).x.zero_()
    assert torch.equal(next(split.batches(4)).x, torch.ones(4, 2))


def test_a_source_has_the_spec_of_its_training_examples() -> None:
    a, b, c = (TensorSplit(torch.ones(n, 2)) for n in (4, 2, 1))
    source = InMemorySource(a, b, c, ("only",))
    assert source.spec == DataSpec((2,), "real", None)
    assert source.label_names == ("only",)
    assert next(a.batches(2)).labels is None


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ShapeError) as error:
        TensorSplit(torch.ones(4))
    assert str(error.value) == "x: expected [N, *X] with at least one event dimension, found shape (4,)"
    with pytest.raises(ShapeError) as error:
        TensorSplit(torch.ones(4, 2), torch.zeros(3))
    assert str(error.value) == "labels: expected shape (4,), one for each example, found (3,)"


def test_batch_sizes_that_cannot_be_are_refused_before_the_first_batch() -> None:
    with pytest.raises(ConfigError) as error:
        grey(9).batches(10, drop_last=True)
    assert str(error.value) == (
        "data.batch_size: 10 is more than the 9 examples of the set, so no full batch exists; use at most 9"
    )
    with pytest.raises(ConfigError) as error:
        grey(9).batches(2, world_size=4)
    assert str(error.value) == ("data.batch_size: 2 examples cannot be shared by 4 processes; use a multiple of 4")


def test_data_are_moved_to_a_device_once() -> None:
    split = grey()
    list(split.batches(5))
    first = split._resident[torch.device("cpu")]
    list(split.batches(5))
    assert split._resident[torch.device("cpu")] is first


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch finds none")
@pytest.mark.parametrize("dynamic", [False, True])
def test_shares_on_a_gpu_make_the_batches_of_one(dynamic: bool) -> None:
    split = grey(dynamic=dynamic)
    alone = list(split.batches(12, shuffle=True, device="cuda"))
    shares = [list(split.batches(12, shuffle=True, rank=r, world_size=2, device="cuda")) for r in range(2)]
    assert alone[0].x.device.type == "cuda"
    assert torch.equal(torch.cat([s[0].x for s in shares]), alone[0].x)
    if not dynamic:
        assert torch.equal(alone[0].x.cpu(), next(split.batches(12, shuffle=True)).x)
