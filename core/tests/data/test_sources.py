"""The sources that need no files: digits and arrays; binarization and splits that all sources share."""

from __future__ import annotations

import pickle
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.datasets import load_digits
from uncollapse.data import ArraysConfig, DigitsConfig, InMemorySource
from uncollapse.errors import ConfigError, DataError
from uncollapse.protocols import DataSpec, Split


def everything(split: Split) -> torch.Tensor:
    return torch.cat([b.x for b in split.batches(500)])


def labels(split: Split) -> torch.Tensor:
    return torch.cat([b.labels for b in split.batches(500)])


def rows(x: torch.Tensor) -> list[bytes]:
    return [row.numpy().tobytes() for row in x]


# --------------------------------------------------------------------------------------------------------- digits


def test_digits_have_the_documented_sizes_and_are_disjoint() -> None:
    source = DigitsConfig().build(0)
    assert (len(source.train), len(source.validation), len(source.test)) == (1297, 200, 300)
    assert source.spec == DataSpec((1, 8, 8), "unit_interval", 10)
    assert source.label_names == tuple("0123456789")
    together = rows(torch.cat([everything(s) for s in (source.train, source.validation, source.test)]))
    original = rows(torch.from_numpy(load_digits().images).float()[:, None] / 16)
    assert sorted(together) == sorted(original)


def test_digits_are_those_of_scikit_learn_in_their_order() -> None:
    with files("uncollapse.data").joinpath("digits.npz").open("rb") as file, np.load(file) as ours:
        assert np.array_equal(ours["images"], load_digits().images)
        assert np.array_equal(ours["labels"], load_digits().target)


def test_digits_keep_every_class_in_its_share() -> None:
    source = DigitsConfig().build(0)
    for split in (source.validation, source.test):
        counts = torch.bincount(labels(split), minlength=10)
        assert (counts - len(split) / 10).abs().max() <= 2


@pytest.mark.parametrize("binarize", ["none", "dynamic", "static", "threshold"])
def test_validation_and_test_are_the_same_for_every_seed_and_pass(binarize: str) -> None:
    a, b = (DigitsConfig(binarize=binarize).build(seed) for seed in (0, 1))
    for part in ("validation", "test"):
        first = everything(getattr(a, part))
        assert torch.equal(first, everything(getattr(b, part)))
        again = torch.cat([batch.x for batch in getattr(a, part).batches(500, epoch=3)])
        assert torch.equal(first, again)


def test_another_split_seed_holds_out_other_examples() -> None:
    a, b = (DigitsConfig(split_seed=seed).build(0) for seed in (0, 1))
    assert not torch.equal(everything(a.test), everything(b.test))


def test_binarize_says_what_training_sees() -> None:
    plain = everything(DigitsConfig().build(0).train)
    seen = {}
    for binarize in ("dynamic", "static", "threshold"):
        source = DigitsConfig(binarize=binarize).build(0)
        assert source.spec.support == "binary"
        passes = [torch.cat([b.x for b in source.train.batches(500, epoch=e)]) for e in (0, 1)]
        assert set(passes[0].unique().tolist()) == {0.0, 1.0}
        assert torch.equal(*passes) == (binarize != "dynamic")
        seen[binarize] = passes[0]
    assert torch.equal(seen["threshold"], (plain > 0.5).float())
    assert not torch.equal(seen["static"], seen["dynamic"])
    for drawn in (seen["static"], seen["dynamic"]):
        assert abs(float(drawn.mean() - plain.mean())) < 0.005


def test_static_draws_are_the_same_for_every_seed_and_dynamic_ones_are_not() -> None:
    for binarize, same in (("static", True), ("dynamic", False)):
        a, b = (everything(DigitsConfig(binarize=binarize).build(seed).train) for seed in (0, 1))
        assert torch.equal(a, b) == same


def test_dynamic_frequencies_over_epochs_are_the_grey_values() -> None:
    source = DigitsConfig(binarize="dynamic", limit=50).build(0)
    grey = everything(DigitsConfig(limit=50).build(0).train)
    count = 400
    total = sum(next(source.train.batches(50, epoch=e)).x for e in range(count))
    z = (total / count - grey) / (grey * (1 - grey) / count).sqrt().clamp_min(1e-9)
    inside = (grey > 0) & (grey < 1)
    assert z[inside].abs().max() < 5
    assert abs(float(z[inside].std()) - 1) < 0.05
    assert torch.equal(total[~inside] / count, grey[~inside])


def test_test_draws_are_independent_binarizations_one_after_the_other() -> None:
    one = everything(DigitsConfig(binarize="dynamic").build(0).test)
    source = DigitsConfig(binarize="dynamic", test_draws=5).build(0)
    five = everything(source.test).unflatten(0, (5, 300))
    assert len(source.validation) == 200
    assert torch.equal(five[0], one)
    assert len({draw.numpy().tobytes() for draw in five}) == 5
    assert torch.equal(labels(source.test), labels(DigitsConfig().build(0).test).repeat(5))


def test_limit_takes_the_first_training_examples() -> None:
    assert torch.equal(
        everything(DigitsConfig(limit=40).build(0).train), everything(DigitsConfig().build(0).train)[:40]
    )


def test_equal_seeds_give_equal_batches_and_others_do_not() -> None:
    def first(seed: int) -> torch.Tensor:
        return next(DigitsConfig().build(seed).train.batches(20, shuffle=True)).x

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"validation": 1497},
            "data.validation: 1497 examples cannot be held out for validation, there are 1497; use 1 to 1496",
        ),
        ({"test": 2000}, "data.test: 2000 examples cannot be held out for test, there are 1797; use 1 to 1796"),
        (
            {"limit": 1298},
            "data.limit: 1298 training examples were asked for, there are 1297; use at most 1297 or leave limit out",
        ),
    ],
)
def test_sizes_that_do_not_fit_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        DigitsConfig(**fields).build(0)
    assert str(error.value) == message


@pytest.mark.parametrize("binarize", ["none", "threshold"])
def test_draws_of_the_test_set_that_would_be_equal_are_refused(binarize: str) -> None:
    with pytest.raises(ValidationError) as error:
        DigitsConfig(binarize=binarize, test_draws=5)
    assert (
        f"test_draws: 5 draws of the test set would be equal with binarize: {binarize}; use binarize: dynamic or "
        "static, or test_draws: 1"
    ) in str(error.value)


# --------------------------------------------------------------------------------------------------------- arrays


def save(path: Path, **arrays: Any) -> str:
    file = path / "data.npz"
    np.savez(file, **arrays)
    return str(file)


def build(path: Path, fields: dict[str, Any] | None = None, **arrays: Any) -> InMemorySource:
    return ArraysConfig(path=save(path, **arrays), **(fields or {})).build(0)


def test_arrays_are_divided_at_random_in_tenths(tmp_path: Path) -> None:
    x = np.arange(120, dtype=np.float64).reshape(60, 2)
    source = build(tmp_path, x=x, y=np.arange(60) % 4)
    assert (len(source.train), len(source.validation), len(source.test)) == (48, 6, 6)
    assert source.spec == DataSpec((2,), "real", 4)
    together = torch.cat([everything(s) for s in (source.train, source.validation, source.test)])
    assert sorted(together[:, 0].tolist()) == x[:, 0].tolist()
    for split in (source.train, source.test):
        assert torch.equal(everything(split)[:, 0] / 2 % 4, labels(split).float())


def test_arrays_keep_the_sets_of_the_file(tmp_path: Path) -> None:
    source = build(tmp_path, x=np.zeros((5, 3)), x_validation=np.ones((2, 3)), x_test=np.full((1, 3), 2.0))
    assert [len(s) for s in (source.train, source.validation, source.test)] == [5, 2, 1]
    assert everything(source.test).tolist() == [[2.0, 2.0, 2.0]]
    assert source.spec.classes is None


@pytest.mark.parametrize(
    "x",
    [
        np.array([[0, 255], [17, 3], [1, 1]], dtype=np.uint8),
        np.array([[0.0, 255.0], [17.0, 3.0], [1.0, 1.0]]),
        np.array([[0, 255], [17, 3], [1, 1]]) / 255,
    ],
)
def test_bytes_come_as_counts_or_divided(tmp_path: Path, x: np.ndarray) -> None:
    source = build(tmp_path, {"support": "bytes", "validation": 1, "test": 1}, x=x)
    assert source.spec.support == "bytes"
    together = torch.cat([everything(s) for s in (source.train, source.validation, source.test)]) * 255
    assert sorted(together.round().tolist()) == [[0, 255], [1, 1], [17, 3]]


def test_whole_numbers_declared_as_bytes_are_counts_even_when_small(tmp_path: Path) -> None:
    source = build(tmp_path, {"support": "bytes"}, x=np.ones((10, 2), dtype=np.int64))
    assert torch.equal(everything(source.test), torch.full((1, 2), 1 / 255))


def test_arrays_can_be_binarized(tmp_path: Path) -> None:
    source = build(tmp_path, {"support": "unit_interval", "binarize": "static"}, x=np.full((50, 9), 0.3))
    assert source.spec.support == "binary"
    assert 0.2 < float(everything(source.train).mean()) < 0.4


def test_big_endian_booleans_and_negative_strides_are_read(tmp_path: Path) -> None:
    x = (np.arange(40).reshape(20, 2) % 3 == 0)[::-1]
    source = build(tmp_path, {"support": "binary"}, x=x, y=np.arange(20, dtype=">i4"))
    assert source.spec.classes == 20
    assert float(everything(source.train).max()) == 1


ONES = np.ones((20, 2))


@pytest.mark.parametrize(
    ("fields", "arrays", "message"),
    [
        (
            {"support": "unit_interval"},
            {"x": np.array([[0.0, 1.0]] * 4 + [[255.0, 7.0]])},
            "data.path: 2 of 10 values of the train set are outside the support 'unit_interval', such as 255 in "
            "example 4; allowed: 0 to 1; divide by 255, or declare support: bytes",
        ),
        (
            {"support": "unit_interval"},
            {"x": np.array([[-0.5, 1.0]] * 4)},
            "data.path: 4 of 8 values of the train set are outside the support 'unit_interval', such as -0.5 in "
            "example 0; allowed: 0 to 1; scale the data, or declare support: real",
        ),
        (
            {"support": "binary"},
            {"x": np.array([[0.0, 0.25]] * 4)},
            "data.path: 4 of 8 values of the train set are outside the support 'binary', such as 0.25 in example 0; "
            "allowed: 0 and 1; declare support: unit_interval and set binarize: dynamic, static or threshold",
        ),
        (
            {"support": "bytes"},
            {"x": np.array([[0.0, 0.5]] * 4)},
            "data.path: 4 of 8 values of the train set are outside the support 'bytes', such as 0.5 in example 0; "
            "allowed: whole numbers 0 to 255, or those divided by 255; declare support: unit_interval or support: real",
        ),
        (
            {},
            {"x": np.array([[0.0, 1.0], [np.nan, np.inf], [2.0, 3.0]])},
            "data.path: 2 of 6 values of the train set are not finite, such as nan in example 1; remove or "
            "replace them",
        ),
        (
            {},
            {"x": np.zeros((0, 3))},
            "data.path: the train set is empty, shape (0, 3); give it at least one example",
        ),
        (
            {},
            {"x": ONES, "x_test": np.zeros((0, 2))},
            "data.path: the test set is empty, shape (0, 2); give it at least one example",
        ),
        (
            {},
            {"x": np.zeros(7)},
            "data.path: the array x has shape (7,); expected [N, *X] with at least one dimension after the examples",
        ),
        ({}, {"x": np.array([["a"]])}, "data.path: the array x holds <U1; expected numbers"),
        (
            {},
            {"x": ONES, "y": np.arange(7)},
            "data.path: the train set has 20 examples but labels of shape (7,); give one label for each example",
        ),
        (
            {},
            {"x": ONES, "y": np.linspace(0, 1, 20)},
            "data.path: the labels of the train set are float64; expected class indices 0, 1, … as integers",
        ),
        (
            {},
            {"x": ONES, "y": np.full(20, -1)},
            "data.path: labels of the train set start at -1; expected class indices 0, 1, …",
        ),
        (
            {},
            {"x": ONES, "x_test": np.ones((3, 4))},
            "data.path: examples of the test set have shape (4,), those of the train set (2,); they must be equal",
        ),
        (
            {},
            {"x": ONES, "y": np.zeros(20, dtype=int), "x_test": ONES},
            "data.path: FILE holds y but not y_test; label every set or none",
        ),
        (
            {},
            {"x": ONES, "y_test": np.zeros(3, dtype=int)},
            "data.path: FILE holds y_test but not x_test; add the examples",
        ),
        (
            {"test": 3},
            {"x": ONES, "x_test": ONES},
            "data.test: 3 examples were asked for, but FILE holds x_test; leave data.test out",
        ),
        (
            {},
            {"images": ONES},
            "data.path: FILE has the keys images; expected x and, if wanted, y, x_validation, y_validation, x_test, "
            "y_test",
        ),
        (
            {},
            {"x": np.array([[{}]], dtype=object)},
            "data.path: FILE holds Python objects (a pickle), which are never loaded because they can run code; save "
            "arrays of numbers with numpy.savez",
        ),
        (
            {"validation": 30},
            {"x": ONES},
            "data.validation: 30 examples cannot be held out for validation, there are 18; use 1 to 17",
        ),
    ],
)  # fmt: skip
def test_wrong_arrays_are_refused_in_words(
    tmp_path: Path, fields: dict[str, Any], arrays: dict[str, Any], message: str
) -> None:
    path = save(tmp_path, **arrays)
    with pytest.raises((DataError, ConfigError)) as error:
        ArraysConfig(path=path, **fields).build(0)
    assert str(error.value) == message.replace("FILE", path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        ArraysConfig(path=str(tmp_path / "none.npz")).build(0)
    assert str(error.value) == (
        f"data.path: there is no file {tmp_path}/none.npz; save one with numpy.savez(path, x=..., y=...)"
    )


class Hostile:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (exec, ("raise SystemExit('code ran')",))


@pytest.mark.parametrize("kind", ["pickle", "npy"])
def test_a_pickle_is_never_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "data.npz"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Hostile()))
    else:
        with path.open("wb") as file:
            np.save(file, np.array([Hostile()], dtype=object), allow_pickle=True)
    with pytest.raises(DataError) as error:
        ArraysConfig(path=str(path)).build(0)
    assert str(error.value) == (
        f"data.path: {path} holds Python objects (a pickle), which are never loaded because they can run code; save "
        "arrays of numbers with numpy.savez"
    )


def test_one_array_is_no_set_of_arrays(tmp_path: Path) -> None:
    path = tmp_path / "data.npy"
    np.save(path, ONES)
    with pytest.raises(DataError) as error:
        ArraysConfig(path=str(path)).build(0)
    assert str(error.value) == (
        f"data.path: {path} is one array; expected an .npz file with the key x, as numpy.savez(path, x=...) writes it"
    )


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = Path(save(tmp_path, x=np.random.default_rng(0).normal(size=(500, 3))))
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(DataError) as error:
        ArraysConfig(path=str(path)).build(0)
    assert str(error.value) == (
        f"data.path: {path} cannot be read, it is truncated or of another format (BadZipFile: File is not a zip file); "
        "get it again"
    )


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    path.touch()
    with pytest.raises(DataError) as error:
        ArraysConfig(path=str(path)).build(0)
    assert str(error.value) == (
        f"data.path: {path} cannot be read, it is truncated or of another format (EOFError: No data left in file); get "
        "it again"
    )


@pytest.mark.parametrize("support", ["real", "binary"])
def test_only_grey_values_can_be_binarized(support: str) -> None:
    with pytest.raises(ValidationError) as error:
        ArraysConfig(path="x.npz", support=support, binarize="dynamic")
    assert (
        f"binarize: dynamic needs values from 0 to 1, but support is {support}; declare support: unit_interval or "
        "bytes, or leave binarize out"
    ) in str(error.value)
