"""Data sets of the library ``datasets``: from the Hub, from local files, from a folder, or from a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from uncollapse.errors import DataError, MissingExtraError, UncollapseError

from .config import PARTS, Read, TextDataConfig
from .corpus import Corpus

__all__ = ["HuggingFaceConfig"]

Files = str | tuple[str, ...]

_LOCAL = ("text", "json", "csv", "parquet", "arrow")
_ROWS = 1000


@dataclass(frozen=True)
class _Rows:
    """The columns of a split.

    Args:
        split: Its name.
        texts: ``N`` texts.
        labels: ``N`` labels as the data set has them, None without.
        names: Names of the classes where the data set knows them.
    """

    split: str
    texts: list[str]
    labels: list[Any] | None
    names: tuple[str, ...] | None

    def where(self, index: int) -> str:
        """Return the place of a row."""
        return f"row {index} (counted from 0) of {self.split!r}"


class HuggingFaceConfig(TextDataConfig):
    """Any data set of texts that the library ``datasets`` reads: Lhoest et al., Datasets: A Community Library for
    Natural Language Processing (2021), https://arxiv.org/abs/2109.02846.

    ``dataset`` is a name on the Hub, which is downloaded once; a kind of local files, with ``data_files``; or a folder
    that ``save_to_disk`` wrote. With ``streaming`` the first ``take`` texts of each split are read from its stream and
    kept, and the rest is never fetched: training needs epochs that can be repeated, which a stream has not. No code of
    a data set is run.
    """

    type: Literal["huggingface"] = "huggingface"
    dataset: str = Field(
        description=f"name on the Hub; {', '.join(_LOCAL[:-1])} or {_LOCAL[-1]} for data_files; or a folder of "
        "save_to_disk",
        examples=["ag_news"],
    )
    configuration: str | None = Field(None, description="which of a data set's configurations")
    data_files: Files | dict[str, Files] | None = Field(None, description="files, or files by split")
    revision: str | None = Field(None, description="revision of a data set on the Hub; name one to repeat a run")
    train: str = Field("train", description="training split, 'train[:80%]' say")
    validation: str | PositiveInt | None = Field(
        None, description="validation split, or how many training texts are held out; null: a tenth"
    )
    test: str | PositiveInt | None = Field(
        None, description="test split, or how many training texts are held out; null: a tenth"
    )
    text: str = Field("text", description="column of the texts")
    label: str | None = Field(None, description="column of the labels; null for none")
    streaming: bool = Field(False, description="read the first texts of every split from a stream")
    take: PositiveInt | None = Field(None, description="with streaming: texts read from each split")
    cache: str | None = Field(None, description="folder of the library's cache; null for its own")

    @model_validator(mode="after")
    def _streams_end(self) -> HuggingFaceConfig:
        if self.streaming and self.take is None:
            raise ValueError("take: streaming needs to know how many texts to read from each split; set take")
        if self.take is not None and not self.streaming:
            raise ValueError("take: is for streaming; set streaming: true, or use limit for fewer training texts")
        return self

    def held_out(self) -> Mapping[str, int | None]:
        """Return the counts that stand where splits could."""
        return {part: given if isinstance(given := getattr(self, part), int) else None for part in PARTS[1:]}

    def read(self) -> Read:
        """Return the texts of all splits; see :meth:`TextDataConfig.read`.

        Raises:
            MissingExtraError: The library ``datasets`` is not installed.
        """
        if find_spec("datasets") is None:
            raise MissingExtraError("datasets", "uncollapse[text]", "data.type: huggingface")
        library = import_module("datasets")
        named = {part: split for part in PARTS if isinstance(split := getattr(self, part), str)}
        with self._loading(library):
            found = {part: self._rows(part, split, self._load(library, part, split)) for part, split in named.items()}
        names, index = _classes(found["train"])
        sets = {}
        for part, rows in found.items():
            labels = None
            if rows.labels is not None:
                labels = torch.tensor([self._index(part, rows, i, index) for i in range(len(rows.labels))])
            sets[part] = Corpus(rows.texts, rows.where, labels)
        return Read(sets, names)

    def _load(self, library: Any, part: str, split: str) -> Any:
        folder = Path(self.dataset).expanduser()
        if any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
            if self.streaming:
                raise DataError(
                    f"data.streaming: {folder} is on this machine, so there is nothing to stream; leave streaming out "
                    "and use data.limit"
                )
            saved = library.load_from_disk(str(folder))
            if not isinstance(saved, dict):
                saved = {"train": saved}
            if split not in saved:
                raise DataError(f"data.{part}: {folder} has no split {split!r}; it has: {', '.join(saved)}")
            return saved[split]
        files: Any = self.data_files
        files = {part: _plain(names) for part, names in files.items()} if isinstance(files, dict) else _plain(files)
        loaded = library.load_dataset(
            self.dataset,
            self.configuration,
            data_files=files,
            split=split,
            revision=self.revision,
            streaming=self.streaming,
            cache_dir=self.cache,
        )
        return loaded if self.take is None else loaded.take(self.take)

    def _rows(self, part: str, split: str, data: Any) -> _Rows:
        columns = [self.text] if self.label is None else [self.text, self.label]
        values: dict[str, list[Any]] = {name: [] for name in columns}
        for rows in data.iter(batch_size=_ROWS):
            for field, name in (("text", self.text), ("label", self.label)):
                if name is not None and name not in rows:
                    raise DataError(
                        f"data.{field}: {self.dataset!r} has no column {name!r}; its columns: {', '.join(rows)}"
                    )
            for name in columns:
                values[name].extend(rows[name])
        texts = values[self.text]
        if not texts:
            raise DataError(f"data.{part}: the split {split!r} of {self.dataset!r} is empty; give it at least one text")
        known = getattr((data.features or {}).get(self.label), "names", None)
        found = _Rows(
            split, texts, None if self.label is None else values[self.label], None if known is None else tuple(known)
        )
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise DataError(
                    f"data.text: the column {self.text!r} holds {type(text).__name__} in {found.where(i)}; expected "
                    "text"
                )
        return found

    def _index(self, part: str, rows: _Rows, i: int, index: Mapping[Any, int]) -> int:
        label = (rows.labels or ())[i]
        if isinstance(label, float | list | dict) or label not in index:
            known = ", ".join(map(repr, list(index)[:20]))
            raise DataError(
                f"data.{part}: {rows.where(i)} has the label {label!r} in the column {self.label!r}; expected a whole "
                f"number or a word that the training texts have: {known}"
            )
        return index[label]

    @contextmanager
    def _loading(self, library: Any) -> Iterator[None]:
        """Say in one message what the library found wrong, and keep it quiet about files on this machine."""
        bars = not library.are_progress_bars_disabled()
        if self.dataset in _LOCAL:
            library.disable_progress_bars()
        try:
            yield
        except UncollapseError:
            raise
        except Exception as error:  # of every kind, those of its many readers among them
            lines = str(error).strip().splitlines()
            reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
            likely = (
                "check the network, or point data.dataset at a folder of save_to_disk"
                if isinstance(error, ConnectionError)
                else "correct data.dataset, data.data_files or the names of the splits"
            )
            raise DataError(f"data.dataset: {self.dataset!r} cannot be loaded ({reason}); {likely}") from error
        finally:
            if bars:
                library.enable_progress_bars()


def _plain(files: Files | None) -> str | list[str] | None:
    return list(files) if isinstance(files, tuple) else files


def _classes(train: _Rows) -> tuple[tuple[str, ...], dict[Any, int]]:
    """Return the classes' names and the index of every label; without names, labels are sorted."""
    if train.labels is None:
        return (), {}
    if train.names is not None:
        return train.names, {i: i for i in range(len(train.names))}
    usable = {label for label in train.labels if isinstance(label, int | str)}
    ordered = sorted(usable, key=lambda label: (isinstance(label, str), label))
    return tuple(map(str, ordered)), {label: i for i, label in enumerate(ordered)}
