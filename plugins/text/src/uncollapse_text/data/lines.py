"""Files of texts, one a line."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from uncollapse.errors import DataError

from .config import PARTS, Read, TextDataConfig
from .corpus import Corpus

__all__ = ["TextLinesConfig"]

Files = str | tuple[str, ...]


class TextLinesConfig(TextDataConfig):
    """Text files with one text a line, the form of the text data of lagging inference networks (He et al., 2019,
    https://arxiv.org/abs/1901.05534) and DU-VAE (Shen et al., 2021).

    Labels: ``files``, the first file of every part holds the first class and so on, as in the Yelp sentences of Shen et
    al., Style Transfer from Non-Parallel Text by Cross-Alignment (2017); ``column``, every line is ``label<TAB>text``.
    """

    type: Literal["text_lines"] = "text_lines"
    root: str = Field(".", description="folder of the files; relative to the current folder")
    train: Files = Field(description="file of training texts, or several", examples=["data/train.txt"])
    validation: Files | PositiveInt | None = Field(
        None, description="file of validation texts, or several; or how many training texts are held out; null: a tenth"
    )
    test: Files | PositiveInt | None = Field(
        None, description="file of test texts, or several; or how many training texts are held out; null: a tenth"
    )
    labels: Literal["none", "files", "column"] = Field(
        "none", description="none; files: one file a class; column: label<TAB>text"
    )
    label_names: tuple[str, ...] = Field(
        (), description="with files: names of the classes, in the order of the files; by default the files' names"
    )

    @model_validator(mode="after")
    def _files_fit(self) -> TextLinesConfig:
        if self.labels != "files":
            if self.label_names:
                raise ValueError(f"label_names: are for labels: files, found labels: {self.labels}; leave them out")
            return self
        count = len(self._files("train") or ())
        for part in PARTS[1:]:
            files = self._files(part)
            if files is not None and len(files) != count:
                raise ValueError(
                    f"{part}: found {len(files)} files, but train has {count}, one a class; give every part one file "
                    "for each class, in the same order"
                )
        if self.label_names and len(self.label_names) != count:
            raise ValueError(f"label_names: found {len(self.label_names)} for {count} files; give one for each")
        return self

    def _files(self, part: str) -> tuple[str, ...] | None:
        given = getattr(self, part)
        if isinstance(given, str):
            return (given,)
        return given if isinstance(given, tuple) else None

    def held_out(self) -> Mapping[str, int | None]:
        """Return the counts that stand where files could."""
        return {part: given if isinstance(given := getattr(self, part), int) else None for part in PARTS[1:]}

    def read(self) -> Read:
        """Return the texts of all files; see :meth:`TextDataConfig.read`."""
        root = Path(self.root).expanduser()
        files = {
            part: [(root / name, _lines(part, root / name)) for name in names]
            for part in PARTS
            if (names := self._files(part))
        }
        sets = {part: _joined(found) for part, found in files.items()}
        if self.labels == "column":
            return _labelled(sets)
        if self.labels == "none":
            return Read(sets)
        for part, found in files.items():
            counts = torch.tensor([len(lines) for _, lines in found])
            sets[part] = replace(sets[part], labels=torch.arange(len(found)).repeat_interleave(counts))
        return Read(sets, self.label_names or tuple(path.name for path, _ in files["train"]))


def _lines(part: str, path: Path) -> list[str]:
    if not path.is_file():
        raise DataError(
            f"data.{part}: there is no file {path.absolute()}; correct data.{part}, or data.root, the folder that "
            "names are relative to"
        )
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        wrong = error.object[error.start]
        line = 1 + error.object[: error.start].count(b"\n")
        raise DataError(
            f"data.{part}: {path}, line {line} is not UTF-8 text: found the byte 0x{wrong:02x}; save the file as UTF-8"
        ) from error
    if not text:
        raise DataError(f"data.{part}: {path} is empty; give it at least one line of text")
    # Not splitlines, which also divides at characters that no editor counts as the end of a line.
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def _joined(files: list[tuple[Path, list[str]]]) -> Corpus:
    ends = list(accumulate(len(lines) for _, lines in files))

    def where(index: int) -> str:
        which = bisect_right(ends, index)
        path, lines = files[which]
        return f"{path}, line {1 + index - ends[which] + len(lines)}"

    return Corpus([line for _, lines in files for line in lines], where)


def _labelled(sets: dict[str, Corpus]) -> Read:
    """Return the texts of lines ``label<TAB>text``; classes are those of the training lines, numbers by size."""
    pairs = {part: [line.partition("\t") for line in corpus.texts] for part, corpus in sets.items()}
    for part, found in pairs.items():
        for i, (label, tab, _) in enumerate(found):
            # An empty line has no label either; whoever made it an error will hear of that.
            if label.strip() and not tab:
                raise DataError(
                    f"data.{part}: {sets[part].where(i)} has no tab; data.labels: column expects label<TAB>text on "
                    "every line; correct it, or set data.labels: none"
                )
    names = {label for label, tab, _ in pairs["train"] if tab}
    numbers = all(name.isdecimal() for name in names)
    ordered = sorted(names, key=(lambda name: (int(name), name)) if numbers else None)
    index = {name: i for i, name in enumerate(ordered)}
    labelled = {}
    for part, found in pairs.items():
        for i, (label, tab, _) in enumerate(found):
            if tab and label not in index:
                raise DataError(
                    f"data.{part}: {sets[part].where(i)} has the label {label!r}, which no training text has; known: "
                    f"{', '.join(ordered[:20])}"
                )
        labels = torch.tensor([index.get(label, 0) for label, _, _ in found])
        labelled[part] = Corpus([text for _, _, text in found], sets[part].where, labels)
    return Read(labelled, tuple(ordered))
