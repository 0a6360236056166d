"""Sources of texts: files of lines and Hugging Face data sets, labels, held-out texts, what a run keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from uncollapse.capabilities import supports

pytest.importorskip("tokenizers", reason="needs the extra 'text'")

from uncollapse.errors import ConfigError, DataError
from uncollapse.protocols import DataSpec, KeepsArtifacts, ReadsText
from uncollapse_text.data import HuggingFaceConfig, TextLinesConfig, TextSource, TextSplit

BAD = [f"the soup was cold {'very ' * (i % 4)}." for i in range(40)]
GOOD = [f"the view was great {'really ' * (i % 3)}!" for i in range(60)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.0").write_text("\n".join(BAD) + "\n")
    (tmp_path / "train.1").write_text("\n".join(GOOD))
    (tmp_path / "dev.0").write_text("the soup was cold .\r\n")
    (tmp_path / "dev.1").write_text("the cake was great !\nthe view was really great !\n")
    pairs = [*(f"negative\t{t}" for t in BAD), *(f"positive\t{t}" for t in GOOD)]
    (tmp_path / "labelled.tsv").write_text("\n".join(pairs) + "\n")
    return tmp_path


def lines(folder: Path, **fields: Any) -> TextLinesConfig:
    fields = {"train": ["train.0", "train.1"], "test": ["dev.0", "dev.1"], "labels": "files", **fields}
    return TextLinesConfig(root=str(folder), **fields)


def texts(source: TextSource, split: TextSplit) -> list[str]:
    return [t for batch in split.mixed().batches(1000) for t in source.to_texts(batch.x)]


def all_ids(source: TextSource) -> list[list[int]]:
    return [row for s in (source.train, source.validation, source.test) for b in s.batches(7) for row in b.x.tolist()]


def test_files_are_classes_and_the_test_texts_are_those_of_its_files(folder: Path) -> None:
    source = lines(folder, validation=10).build(0)
    assert supports(source, KeepsArtifacts)
    assert supports(source, ReadsText)
    assert source.label_names == ("train.0", "train.1")
    assert (len(source.train), len(source.validation), len(source.test)) == (90, 10, 3)
    assert texts(source, source.test) == ["the soup was cold .", "the <unk> was great !", "the view was really great !"]
    assert source.test.labels.tolist() == [0, 1, 1]
    # Every class keeps its share among the held-out texts.
    assert source.validation.labels.bincount().tolist() == [4, 6]
    vocabulary = source.vocabulary.size
    longest = max(len(t.split()) for t in [*BAD, *GOOD])
    assert source.spec == DataSpec((longest + 1,), "tokens", 2, vocabulary, source.vocabulary.special)
    assert source.train.spec == source.validation.spec == source.test.spec == source.spec


def test_the_vocabulary_is_made_of_the_training_texts_alone(folder: Path) -> None:
    source = lines(folder, validation=10).build(0)
    assert source.vocabulary.tokenizer.token_to_id("cake") is None
    words = {word for text in texts(source, source.train) for word in text.split()}
    assert source.vocabulary.size == 4 + len(words)


def test_without_labels_files_are_one_after_the_other(folder: Path) -> None:
    source = lines(folder, labels="none", validation=1).build(0)
    assert source.spec.classes is None
    assert source.train.labels is None
    assert source.label_names == ()
    clean = [" ".join(t.split()) for t in [*BAD, *GOOD]]
    assert sorted([*texts(source, source.train), *texts(source, source.validation)]) == sorted(clean)


def test_a_column_of_labels(folder: Path) -> None:
    source = lines(folder, train="labelled.tsv", test=None, labels="column", label_names=()).build(0)
    assert source.label_names == ("negative", "positive")
    assert (len(source.train), len(source.validation), len(source.test)) == (80, 10, 10)
    for split in (source.train, source.test):
        for text, label in zip(texts(source, split), split.labels.tolist(), strict=True):
            assert ("view" in text) == bool(label)


def test_numbers_as_labels_are_sorted_by_size(folder: Path) -> None:
    rows = [f"{10 if i % 2 else 9}\tword{i % 2} a" for i in range(30)]
    (folder / "numbers.tsv").write_text("\n".join(rows))
    source = lines(folder, train="numbers.tsv", test=None, labels="column").build(0)
    assert source.label_names == ("9", "10")
    for text, label in zip(texts(source, source.train), source.train.labels.tolist(), strict=True):
        assert text == f"word{label} a"


def test_the_runs_seed_changes_the_order_only(folder: Path) -> None:
    one, other = (lines(folder, validation=10).build(seed) for seed in (0, 1))
    assert all_ids(one) != all_ids(other)
    assert sorted(all_ids(one)) == sorted(all_ids(other))
    assert texts(one, one.validation) == texts(other, other.validation)
    moved = lines(folder, validation=10, split_seed=1).build(0)
    assert texts(moved, moved.validation) != texts(one, one.validation)


def test_a_limit_draws_from_all_files(folder: Path) -> None:
    source = lines(folder, validation=10, limit=30).build(0)
    assert len(source.train) == 30
    assert min(source.train.labels.bincount().tolist()) >= 5
    with pytest.raises(ConfigError, match=r"data.limit: 91 training examples were asked for, there are 90"):
        lines(folder, validation=10, limit=91).build(0)


def test_long_texts_are_cut_or_left_out_when_that_is_asked_for(folder: Path) -> None:
    cut = lines(folder, max_length=5, too_long="truncate", validation=10).build(0)
    assert cut.spec.event_shape == (6,)
    assert len(cut.train) == 90
    assert max(len(t.split()) for t in texts(cut, cut.train)) == 5
    end = cut.spec.special.end
    assert all((b.x == end).any(1).all() for b in cut.train.batches(50))
    dropped = lines(folder, max_length=5, too_long="drop", validation=10).build(0)
    short = [t for t in [*BAD, *GOOD] if len(t.split()) <= 5]
    assert len(dropped.train) + len(dropped.validation) == len(short)
    assert dropped.train.labels.bincount().sum() == len(dropped.train)
    for text, label in zip(texts(dropped, dropped.train), dropped.train.labels.tolist(), strict=True):
        assert ("view" in text) == bool(label)


def test_empty_texts_are_left_out_when_that_is_asked_for(folder: Path) -> None:
    (folder / "holes").write_text("a b\n\n   \nc\n" * 10)
    source = lines(folder, train="holes", test=None, labels="none", empty="skip").build(0)
    assert len(source.train) + len(source.validation) + len(source.test) == 20


def test_a_byte_order_mark_is_no_text(folder: Path) -> None:
    (folder / "marked").write_bytes("\ufeffsoup\n".encode() * 1 + b"soup\n" * 20)
    source = lines(folder, train="marked", test=None, labels="none").build(0)
    assert source.vocabulary.size == 5


def test_byte_pairs_of_files(folder: Path) -> None:
    source = lines(folder, tokens="bpe", vocabulary_size=280, batching="padded", validation=10).build(0)
    assert source.spec.vocabulary_size <= 280
    assert texts(source, source.test) == ["the soup was cold .", "the cake was great !", "the view was really great !"]


def test_sentences_to_tokens_and_back(folder: Path) -> None:
    source = lines(folder, lower_case=True).build(0)
    tokens = source.to_tokens(["The soup was COLD .", "great !"])
    assert tokens.dtype == torch.int64
    assert (tokens != source.spec.special.padding).sum(1).tolist() == [6, 3]
    assert source.to_texts(tokens) == ["the soup was cold .", "great !"]
    with pytest.raises(DataError, match=r"'' has 0 tokens; expected 1 to 8"):
        source.to_tokens([""])
    with pytest.raises(DataError, match=r"has 9 tokens; expected 1 to 8"):
        source.to_tokens(["the " * 9])
    with pytest.raises(DataError, match=r"'the </s>' holds '</s>', which no text may hold"):
        source.to_tokens(["the </s>"])


# ------------------------------------------------------------------------------------------------------ what runs keep


def keep(source: TextSource, folder: Path) -> Path:
    folder.mkdir()
    for name, content in source.artifacts().items():
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    "fields", [{}, {"tokens": "bpe", "vocabulary_size": 270}, {"lower_case": True, "max_length": 9}]
)
def test_a_run_is_rebuilt_with_the_same_ids(folder: Path, fields: dict[str, Any]) -> None:
    config = lines(folder, **fields)
    source = config.build(3)
    again = config.rebuild(3, keep(source, folder / "kept"))
    assert all_ids(again) == all_ids(source)
    assert again.spec == source.spec
    assert again.artifacts() == source.artifacts() == config.build(3).artifacts()


def test_a_longer_test_text_does_not_make_the_run_longer(folder: Path) -> None:
    config = lines(folder)
    kept = keep(config.build(0), folder / "kept")
    (folder / "dev.0").write_text("the soup was cold " * 3 + "\n")
    with pytest.raises(
        DataError, match=r"data.test: .*dev.0, line 1 has 12 tokens, more than the 8 that data.max_length"
    ):
        config.rebuild(0, kept)


def test_other_training_texts_are_told(folder: Path) -> None:
    config = lines(folder)
    kept = keep(config.build(0), folder / "kept")
    (folder / "train.0").write_text("\n".join([*BAD, "more"]))
    with pytest.raises(DataError, match=r"data.train: .* \(90 texts then, 91 now\); bring the files back"):
        config.rebuild(0, kept)
    (folder / "train.0").write_text("\n".join([*BAD[:-1], "other"]))
    with pytest.raises(DataError, match=r"\(90 texts then, 90 now, of other content\)"):
        config.rebuild(0, kept)


def test_a_vocabulary_of_another_run(folder: Path) -> None:
    first = keep(lines(folder).build(0), folder / "first") / "tokenizer.json"
    shared = folder / "tokenizer.json"
    shared.write_bytes(first.read_bytes())
    config = lines(folder, vocabulary=str(shared), limit=40)
    source = config.build(0)
    assert source.vocabulary.to_json() == first.read_text()
    kept = keep(source, folder / "kept")
    assert all_ids(config.rebuild(0, kept)) == all_ids(source)
    # The run has its own copy, so it can do without the file, but not with another one.
    shared.unlink()
    assert all_ids(config.rebuild(0, kept)) == all_ids(source)
    smaller = keep(lines(folder, min_frequency=50).build(0), folder / "smaller") / "tokenizer.json"
    shared.write_bytes(smaller.read_bytes())
    with pytest.raises(
        DataError, match=r"is not the vocabulary that the run was trained with: it has \d+ tokens instead"
    ):
        config.rebuild(0, kept)
    (kept / "tokenizer.json").write_bytes(smaller.read_bytes())
    with pytest.raises(DataError, match=r"kept/tokenizer.json: not the vocabulary that the run was trained with"):
        config.rebuild(0, kept)


def test_what_a_run_kept_must_be_there_and_whole(folder: Path) -> None:
    config = lines(folder)
    kept = keep(config.build(0), folder / "kept")
    record = kept / "vocabulary.json"
    assert json.loads(record.read_text())["texts"] == 90
    for content in ("[]", "{}", "{", '{"vocabulary": "x", "more": 1}'):
        record.write_text(content)
        with pytest.raises(DataError, match="the run's vocabulary cannot be read"):
            config.rebuild(0, kept)
    record.unlink()
    with pytest.raises(DataError, match=r"vocabulary.json: missing; a run of texts needs the vocabulary"):
        config.rebuild(0, kept)


# -------------------------------------------------------------------------------------------------------- hugging face


@pytest.fixture
def datasets(tmp_path: Path) -> Iterator[Any]:
    library = pytest.importorskip("datasets", reason="needs the extra 'text'")
    library.disable_progress_bars()
    yield library
    library.enable_progress_bars()


def hub(folder: Path, **fields: Any) -> HuggingFaceConfig:
    return HuggingFaceConfig(cache=str(folder / "cache"), **fields)


def test_local_files_read_as_lines_are(folder: Path, datasets: Any) -> None:
    files = {"train": [str(folder / "train.0"), str(folder / "train.1")], "test": str(folder / "dev.1")}
    source = hub(folder, dataset="text", data_files=files, test="test", validation=10).build(0)
    direct = lines(folder, labels="none", validation=10, test="dev.1").build(0)
    assert all_ids(source) == all_ids(direct)
    assert source.artifacts() == direct.artifacts()
    # The library speaks as much as before.
    assert datasets.are_progress_bars_disabled()


def test_columns_labels_and_names(folder: Path, datasets: Any) -> None:
    rows = [{"review": t, "stars": s} for s, of_class in ((5, GOOD), (1, BAD)) for t in of_class]
    path = folder / "reviews.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    fields = {"dataset": "json", "data_files": str(path), "text": "review", "label": "stars"}
    source = hub(folder, **fields, test="train[:20%]", train="train[20%:]").build(0)
    assert source.label_names == ("1", "5")
    assert len(source.test) == 20
    assert source.test.labels.tolist() == [1] * 20
    assert texts(source, source.test)[0] == GOOD[0]


def test_a_folder_on_the_disk_with_named_classes(folder: Path, datasets: Any) -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    data = datasets.Dataset.from_dict({"text": [*GOOD, *BAD], "label": [1] * 60 + [0] * 40}, features=features)
    data.save_to_disk(str(folder / "one"))
    datasets.DatasetDict(train=data, held=data.select(range(5))).save_to_disk(str(folder / "several"))
    source = hub(folder, dataset=str(folder / "one"), label="label").build(0)
    assert source.label_names == ("bad", "good")
    assert (len(source.train), len(source.validation), len(source.test)) == (80, 10, 10)
    source = hub(folder, dataset=str(folder / "several"), label="label", test="held").build(0)
    assert source.test.labels.tolist() == [1] * 5
    with pytest.raises(DataError, match=r"data.test: .*several has no split 'tests'; it has: train, held"):
        hub(folder, dataset=str(folder / "several"), test="tests").build(0)
    with pytest.raises(DataError, match="nothing to stream; leave streaming out"):
        hub(folder, dataset=str(folder / "several"), streaming=True, take=5).build(0)


def test_a_stream_gives_its_first_texts(folder: Path, datasets: Any) -> None:
    files = {"train": [str(folder / "train.0"), str(folder / "train.1")]}
    fields = {"dataset": "text", "data_files": files, "validation": 5, "test": 5}
    source = hub(folder, **fields, streaming=True, take=50).build(0)
    direct = hub(folder, **fields | {"train": "train[:50]"}).build(0)
    assert len(source.train) == 40
    assert all_ids(source) == all_ids(direct)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        (
            {"data_files": "none.txt"},
            r"data.dataset: 'text' cannot be loaded \(FileNotFoundError: Unable to find .*none.txt",
        ),
        ({"test": "tests"}, r"cannot be loaded \(ValueError: Unknown split \"tests\""),
        ({"text": "review"}, r"data.text: 'text' has no column 'review'; its columns: text"),
        ({"label": "stars"}, r"data.label: 'text' has no column 'stars'; its columns: text"),
    ],
)
def test_data_sets_that_are_not_what_they_should_be(
    folder: Path, datasets: Any, fields: dict[str, Any], problem: str
) -> None:
    fields = {"dataset": "text", "data_files": str(folder / "train.0"), **fields}
    with pytest.raises(DataError, match=problem):
        hub(folder, **fields).build(0)


def test_rows_that_are_not_what_they_should_be(folder: Path, datasets: Any) -> None:
    def build(rows: list[dict[str, Any]], **fields: Any) -> None:
        path = folder / f"rows{len(list(folder.iterdir()))}.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        hub(folder, dataset="json", data_files=str(path), **fields).build(0)

    with pytest.raises(DataError, match=r"the column 'text' holds NoneType in row 1 \(counted from 0\) of 'train'"):
        build([{"text": "a"}, {"text": None}])
    with pytest.raises(DataError, match=r"row 1 .* has the label None in the column 'label'; .* have: 'x'"):
        build([{"text": "a", "label": "x"}, {"text": "b", "label": None}], label="label")
    with pytest.raises(DataError, match=r"row 2 \(counted from 0\) of 'train' is empty, as are 1 more"):
        build([{"text": "a"}, {"text": "b"}, {"text": " "}, {"text": ""}])


# ----------------------------------------------------------------------------------------------------------- real data


def test_yelp_is_whole(full_data: Path) -> None:
    root = full_data / "yelp"
    config = TextLinesConfig(
        root=str(root),
        train=("sentiment.dev.0", "sentiment.dev.1"),
        labels="files",
        label_names=("negative", "positive"),
        validation=2000,
        test=1000,
        max_length=15,
    )
    source = config.build(0)
    assert len(source.train) + len(source.validation) + len(source.test) == 63_483
    assert source.spec.event_shape == (16,)
    raw = [(root / f"sentiment.dev.{c}").read_text().splitlines() for c in (0, 1)]
    counts = sum(s.labels.bincount() for s in (source.train, source.validation, source.test))
    assert counts.tolist() == [len(of_class) for of_class in raw]
    known = {text for of_class in raw for text in of_class}
    stored = [*texts(source, source.validation), *texts(source, source.test)]
    whole = [text for text in stored if "<unk>" not in text]
    assert set(whole) <= known
    # Words that only held-out sentences have.
    assert len(stored) - 300 < len(whole) < len(stored)
