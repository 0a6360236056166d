"""What all sources of text share: fields, and the way from texts to splits of tokens."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from uncollapse.config import DataConfig
from uncollapse.data import stream_seed
from uncollapse.errors import ConfigError, DataError
from uncollapse.protocols import DataSpec

from .corpus import Corpus
from .source import Kept, TextSource, digest
from .splits import Batching, TextSplit
from .vocabulary import BYTES, SPECIAL, Vocabulary, load_tokenizers

__all__ = ["PARTS", "SpecialTokenNames", "TextDataConfig"]

PARTS = ("train", "validation", "test")
_BPE_SIZE = 8000


class SpecialTokenNames(BaseModel):
    """How a vocabulary writes the tokens that no text contains; those that a file lacks are added."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    padding: str = Field(SPECIAL[0], description="fills up a short text")
    start: str = Field(SPECIAL[1], description="what a decoder reads before the first token")
    end: str = Field(SPECIAL[2], description="the last token of every text")
    unknown: str = Field(SPECIAL[3], description="stands for tokens outside the vocabulary")

    @model_validator(mode="after")
    def _differ(self) -> SpecialTokenNames:
        if len(set(self.all)) < len(self.all):
            raise ValueError(f"four different tokens are needed, found {', '.join(self.all)}")
        return self

    @property
    def all(self) -> tuple[str, str, str, str]:
        """Padding, start, end, unknown."""
        return self.padding, self.start, self.end, self.unknown


@dataclass(frozen=True)
class Read:
    """What a config read.

    Args:
        sets: Texts by part; ``validation`` and ``test`` may be missing.
        label_names: Name of every class; empty where there are no labels.
    """

    sets: dict[str, Corpus]
    label_names: tuple[str, ...] = ()


class TextDataConfig(DataConfig):
    """Fields of sources of text.

    The vocabulary is made of the training texts alone, unless ``vocabulary`` names a file. A run keeps it and is loaded
    with what it kept; other training texts, or another file at that path, are then an error. All texts are held in
    memory, four bytes a token.
    """

    tokens: Literal["words", "bpe"] = Field(
        "words",
        description="words: what stands between blanks, as in lagging and DU-VAE; bpe: pieces of words, byte pair "
        "encoding on bytes",
    )
    vocabulary_size: PositiveInt | None = Field(
        None, description="most tokens, the four special ones included; null for all words, or 8000 with bpe"
    )
    min_frequency: PositiveInt = Field(1, description="words that the training texts hold less often are unknown")
    vocabulary: str | None = Field(
        None,
        description="a file instead: a tokenizer.json of the library tokenizers, that of another run say, or a list "
        "with one word a line",
    )
    special_tokens: SpecialTokenNames = Field(
        SpecialTokenNames(), description="how the vocabulary writes the tokens that no text contains"
    )
    lower_case: bool = Field(False, description="lower-case all texts")
    max_length: PositiveInt | None = Field(
        None, description="most tokens of a text, its end not counted; null for the longest of all texts"
    )
    too_long: Literal["error", "truncate", "drop"] = Field("error", description="what becomes of longer texts")
    empty: Literal["error", "skip"] = Field("error", description="what becomes of texts without a token")
    limit: PositiveInt | None = Field(
        None, description="use only so many training texts, drawn at random by split_seed; null for all"
    )
    batching: Batching = Field(
        "equal_length",
        description="equal_length: no padding, each batch has texts of one length, fixed ones in a new order every "
        "epoch (lagging, DU-VAE; with training.drop_last each length's short batch is never seen); padded: batches "
        "drawn anew every epoch",
    )
    pool: PositiveInt = Field(50, description="with padded: batches that are sorted by length together; 1: none")
    smallest_batch: PositiveInt = Field(
        1,
        description="training batches with fewer texts are left out, whatever training.drop_last says; 16 in DU-VAE, "
        "2 for what needs pairs",
    )
    split_seed: int = Field(
        0, ge=0, lt=2**31, description="seed of held-out texts and of limit; the run's seed is another"
    )

    @model_validator(mode="after")
    def _vocabulary_fits(self) -> TextDataConfig:
        fields, making = type(self).model_fields, ("tokens", "vocabulary_size", "min_frequency")
        changed = [name for name in making if getattr(self, name) != fields[name].default]
        if self.vocabulary is not None and changed:
            raise ValueError(
                f"{changed[0]}: a vocabulary is made of the texts or read from a file, found both {changed[0]} and "
                "vocabulary; leave one of them out"
            )
        least = len(SPECIAL) + (BYTES if self.tokens == "bpe" else 1)
        if self.vocabulary_size is not None and self.vocabulary_size < least:
            what = "the special tokens and 256 bytes" if self.tokens == "bpe" else "the special tokens and one word"
            raise ValueError(
                f"vocabulary_size: {self.vocabulary_size} tokens are too few; {what} need {least}, so use at least that"
            )
        if self.smallest_batch > self.batch_size:
            raise ValueError(
                f"smallest_batch: {self.smallest_batch} is more than batch_size, {self.batch_size}, so no batch is "
                "left; use at most as many"
            )
        if self.tokens == "bpe" and self.min_frequency > 1:
            raise ValueError("min_frequency: is for tokens: words; with bpe, vocabulary_size keeps rare pieces out")
        return self

    @abstractmethod
    def read(self) -> Read:
        """Return the texts of every part that has some of its own.

        Raises:
            DataError: Files are missing, unreadable or not what they should be.
        """

    @abstractmethod
    def held_out(self) -> Mapping[str, int | None]:
        """Return how many training texts are held out for each part that :meth:`read` does not give; None: a tenth."""

    def build(self, seed: int) -> TextSource:
        """Return the source; see :class:`uncollapse.config.DataConfig`.

        Raises:
            MissingExtraError: The library ``tokenizers`` is not installed.
            DataError: Texts are missing, too long, empty, or hold special tokens.
        """
        return self._source(seed, None)

    def rebuild(self, seed: int, artifacts: Path) -> TextSource:
        """Return the source with the vocabulary that a run kept.

        Raises:
            DataError: As for :meth:`build`, or the training texts or the file of the vocabulary are not what they were.
        """
        return self._source(seed, Kept.read(artifacts))

    def _source(self, seed: int, kept: Kept | None) -> TextSource:
        load_tokenizers(f"data.type: {self.type}")
        read = self.read()
        sets = self._divided({part: self._without_empty(part, corpus) for part, corpus in read.sets.items()})
        vocabulary, texts = self._vocabulary(sets["train"], kept)
        encoded = {part: list(vocabulary.encode(sets[part].texts)) for part in PARTS}
        longest = max((len(ids) for rows in encoded.values() for ids in rows), default=1)
        most = kept.max_length if kept is not None else self.max_length or longest
        spec = DataSpec(
            (most + 1,),
            "tokens",
            len(read.label_names) or None,
            vocabulary_size=vocabulary.size,
            special=vocabulary.special,
        )
        splits = {}
        for part in PARTS:
            rows, labels = self._fitting(part, sets[part], encoded[part], vocabulary, most)
            splits[part] = TextSplit(
                rows,
                labels,
                spec=spec,
                batching=self.batching,
                pool=self.pool,
                smallest=self.smallest_batch if part == "train" else 1,
                seed=stream_seed(seed, part),
            )
        keeps = kept or Kept(vocabulary.to_json(), most, len(texts), digest(texts) if texts else "")
        return TextSource(splits["train"], splits["validation"], splits["test"], vocabulary, keeps, read.label_names)

    def _without_empty(self, part: str, corpus: Corpus) -> Corpus:
        void = [i for i, text in enumerate(corpus.texts) if not text.strip()]
        if not void:
            return corpus
        if self.empty == "error":
            raise DataError(
                f"data.{part}: {corpus.where(void[0])} is empty{_others(void, 'are')}; remove it, or set "
                "data.empty: skip"
            )
        if len(void) == len(corpus):
            raise DataError(f"data.{part}: all {len(void):,} texts are empty; give it at least one")
        stays = torch.ones(len(corpus), dtype=torch.bool)
        stays[void] = False
        return corpus.take(stays.nonzero()[:, 0])

    def _divided(self, sets: dict[str, Corpus]) -> dict[str, Corpus]:
        train = sets["train"]
        whole, held = len(train), self.held_out()
        for part in ("test", "validation"):
            if part not in sets:
                count = held[part] or max(1, whole // 10)
                train, sets[part] = train.hold_out(count, seed=self.split_seed, part=part, place=f"data.{part}")
        if self.limit is not None and self.limit > len(train):
            raise ConfigError(
                f"data.limit: {self.limit} training examples were asked for, there are {len(train)}; use at most "
                f"{len(train)} or leave limit out"
            )
        return {**sets, "train": train if self.limit is None else train.draw(self.limit, self.split_seed)}

    def _vocabulary(self, train: Corpus, kept: Kept | None) -> tuple[Vocabulary, list[str]]:
        """Return the vocabulary and the texts that it is made of, none where it comes from a file."""
        names = self.special_tokens.all
        texts = [] if self.vocabulary else list(train.texts)
        if kept is None:
            return self._new_vocabulary(texts), texts
        vocabulary = Vocabulary.from_json(kept.vocabulary, "the run's vocabulary", names=names)
        if self.vocabulary is None:
            if (len(texts), digest(texts)) != (kept.texts, kept.sha256):
                counts = f"{kept.texts:,} texts then, {len(texts):,} now"
                raise DataError(
                    f"data.train: the training texts are not those that the run's vocabulary was made of ({counts}"
                    f"{', of other content' if len(texts) == kept.texts else ''}); bring the files back, or train "
                    "another run"
                )
        elif Path(self.vocabulary).expanduser().exists():
            difference = vocabulary.difference(self._new_vocabulary(texts))
            if difference:
                raise DataError(
                    f"data.vocabulary: {self.vocabulary} is not the vocabulary that the run was trained with: it has "
                    f"{difference}; bring the file back, or train another run"
                )
        return vocabulary, texts

    def _new_vocabulary(self, texts: list[str]) -> Vocabulary:
        names, lower = self.special_tokens.all, self.lower_case
        if self.vocabulary is not None:
            return Vocabulary.from_file(Path(self.vocabulary).expanduser(), lower_case=lower, names=names)
        if self.tokens == "bpe":
            return Vocabulary.bpe(texts, size=self.vocabulary_size or _BPE_SIZE, lower_case=lower, names=names)
        return Vocabulary.words(
            texts, min_frequency=self.min_frequency, size=self.vocabulary_size, lower_case=lower, names=names
        )

    def _fitting(
        self, part: str, corpus: Corpus, rows: list[list[int]], vocabulary: Vocabulary, most: int
    ) -> tuple[list[list[int]], torch.Tensor | None]:
        """Return the ids and labels of the texts that are not too long, or their beginnings."""
        for i, ids in enumerate(rows):
            if (reserved := vocabulary.reserved(ids)) is not None:
                raise DataError(
                    f"data.{part}: {corpus.where(i)} holds {reserved!r}, which stands for padding, start or end; "
                    "remove it, or write these tokens otherwise with data.special_tokens"
                )
            if not ids:
                raise DataError(
                    f"data.{part}: {corpus.where(i)}: the vocabulary finds no token in {corpus.texts[i]!r}; remove "
                    "it, or use another vocabulary"
                )
        long = [i for i, ids in enumerate(rows) if len(ids) > most]
        if long and self.too_long == "error":
            longest = max(len(ids) for ids in rows)
            raise DataError(
                f"data.{part}: {corpus.where(long[0])} has {len(rows[long[0]])} tokens, more than the {most} that "
                f"data.max_length allows{_others(long, 'have')}; set data.max_length: {longest}, or data.too_long: "
                "truncate or drop"
            )
        stays = [i for i, ids in enumerate(rows) if len(ids) <= most or self.too_long == "truncate"]
        if not stays:
            raise DataError(
                f"data.{part}: all {len(rows):,} texts have more tokens than data.max_length, {most}, allows; raise "
                "it, or set data.too_long: truncate"
            )
        labels = None if corpus.labels is None else corpus.labels[torch.tensor(stays)]
        return [rows[i][:most] for i in stays], labels


def _others(found: list[int], verb: str) -> str:
    return f", as {verb} {len(found) - 1:,} more" if len(found) > 1 else ""
