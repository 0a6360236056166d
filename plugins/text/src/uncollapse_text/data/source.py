"""A source of texts: three splits, one vocabulary, and what a run keeps of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from uncollapse.data import InMemorySource
from uncollapse.errors import DataError

from .splits import TextSplit
from .vocabulary import Vocabulary

__all__ = ["Kept", "TextSource", "digest"]

_TOKENIZER, _RECORD = "tokenizer.json", "vocabulary.json"


def digest(texts: Sequence[str]) -> str:
    """Return the SHA-256 of texts in their order."""
    total = hashlib.sha256()
    for text in texts:
        total.update(text.encode())
        total.update(b"\n")
    return total.hexdigest()


@dataclass(frozen=True)
class Kept:
    """What a run keeps of its texts.

    Args:
        vocabulary: Content of the tokenizer file.
        max_length: Most tokens of a text, its end not counted.
        texts: Training texts that the vocabulary was made of; 0 where it came from a file.
        sha256: Digest of these texts; empty where it came from a file.
    """

    vocabulary: str
    max_length: int
    texts: int = 0
    sha256: str = ""

    def files(self) -> dict[str, bytes]:
        """Return the files of a run's folder."""
        record = {**asdict(self), "vocabulary": hashlib.sha256(self.vocabulary.encode()).hexdigest()}
        return {_TOKENIZER: self.vocabulary.encode(), _RECORD: (json.dumps(record, indent=2) + "\n").encode()}

    @classmethod
    def read(cls, folder: Path) -> Kept:
        """Return what :meth:`files` wrote to ``folder``.

        Raises:
            DataError: Files are missing or were changed.
        """
        try:
            record = json.loads((folder / _RECORD).read_bytes())
            vocabulary = (folder / _TOKENIZER).read_bytes().decode()
            expected = record.pop("vocabulary")
            kept = cls(vocabulary, **record)
        except FileNotFoundError as error:
            raise DataError(
                f"{error.filename}: missing; a run of texts needs the vocabulary that it was trained with"
            ) from error
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise DataError(f"{folder}: the run's vocabulary cannot be read: {reason}") from error
        if hashlib.sha256(vocabulary.encode()).hexdigest() != expected:
            raise DataError(
                f"{folder / _TOKENIZER}: not the vocabulary that the run was trained with (its SHA-256 differs from "
                f"that in {_RECORD}); bring the file back, or train another run"
            )
        return kept


class TextSource(InMemorySource):
    """Three splits of texts and their vocabulary; implements :class:`uncollapse.protocols.DataSource`,
    :class:`~uncollapse.protocols.KeepsArtifacts` and :class:`~uncollapse.protocols.ReadsText`.

    Args:
        train: Training texts.
        validation: Texts for model selection.
        test: Texts for the final numbers.
        vocabulary: What made their tokens.
        kept: What a run keeps.
        label_names: Name of every class; empty where there are none.
    """

    def __init__(
        self,
        train: TextSplit,
        validation: TextSplit,
        test: TextSplit,
        vocabulary: Vocabulary,
        kept: Kept,
        label_names: tuple[str, ...] = (),
    ) -> None:
        super().__init__(train, validation, test, label_names)
        self.vocabulary = vocabulary
        self._kept = kept

    def artifacts(self) -> Mapping[str, bytes]:
        """Return ``tokenizer.json``, which ``vocabulary:`` of another pipeline may name, and ``vocabulary.json``."""
        return self._kept.files()

    def to_tokens(self, texts: Sequence[str]) -> Tensor:
        """Return ``[N, T]``; see :class:`uncollapse.protocols.ReadsText`."""
        most, special = self.spec.event_shape[0] - 1, self.vocabulary.special
        rows = []
        for text, ids in zip(texts, self.vocabulary.encode(list(texts)), strict=True):
            if not 0 < len(ids) <= most:
                raise DataError(f"{text!r} has {len(ids)} tokens; expected 1 to {most}, as the run's data have")
            if (reserved := self.vocabulary.reserved(ids)) is not None:
                raise DataError(f"{text!r} holds {reserved!r}, which no text may hold; leave it out")
            rows.append(torch.tensor([*ids, special.end]))
        return pad_sequence(rows, batch_first=True, padding_value=special.padding)

    def to_texts(self, tokens: Tensor) -> list[str]:
        """Return one text for each row of ``[N, T]``; see :class:`uncollapse.protocols.ReadsText`."""
        return self.vocabulary.decode(tokens.tolist())
