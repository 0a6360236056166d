"""What the tokens of texts are: words or pieces of words, by the library ``tokenizers``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from uncollapse.errors import ConfigError, DataError, MissingExtraError
from uncollapse.protocols import SpecialTokens

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["BYTES", "SPECIAL", "Vocabulary", "load_tokenizers"]

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
"""Padding, start, end, unknown: the order of :class:`uncollapse.protocols.SpecialTokens`."""

BYTES = 256
"""Tokens that byte pair encoding starts from."""

_CHUNK = 10_000


def load_tokenizers(purpose: str) -> Any:
    """Return the library ``tokenizers``.

    Raises:
        MissingExtraError: It is not installed; the message names ``purpose``.
    """
    if find_spec("tokenizers") is None:
        raise MissingExtraError("tokenizers", "uncollapse[text]", purpose)
    return import_module("tokenizers")


class Vocabulary:
    """Texts to token ids and back.

    Args:
        tokenizer: Any tokenizer of the library. Special tokens that it lacks are added; what it would put around a
            text, cut off or fill up with is switched off.
        names: The tokens for padding, start, end and unknown.

    Raises:
        DataError: A token that is added would get the id of another.
    """

    def __init__(self, tokenizer: Tokenizer, names: Sequence[str] = SPECIAL) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.add_special_tokens(list(names))
        # A text that holds "</s>" means these four characters; that a word list has them as a word is seen in encode.
        tokenizer.encode_special_tokens = True
        self.tokenizer = tokenizer
        self.names = tuple(names)
        self.special = SpecialTokens(*(cast(int, tokenizer.token_to_id(name)) for name in names))
        vocabulary = tokenizer.get_vocab(with_added_tokens=True)
        if len(set(vocabulary.values())) < len(vocabulary):
            raise DataError(
                f"data.vocabulary: the ids have gaps, so that {', '.join(names)} cannot be added; add them to the file"
            )
        self._reserved = {self.special.padding, self.special.start, self.special.end}
        # Ids of a file may have gaps.
        self.size = 1 + max(vocabulary.values())

    def __len__(self) -> int:
        return self.size

    @classmethod
    def words(
        cls,
        texts: Iterable[str],
        *,
        min_frequency: int = 1,
        size: int | None = None,
        lower_case: bool = False,
        names: Sequence[str] = SPECIAL,
    ) -> Vocabulary:
        """Return the words of ``texts``, between blanks, the most frequent first and equally frequent ones by alphabet.

        Args:
            texts: Training texts.
            min_frequency: Rarer words are unknown.
            size: Most tokens, the special ones included; None for all.
            lower_case: Whether texts are lower-cased first.
            names: The tokens for padding, start, end and unknown.

        Raises:
            ConfigError: No word is left.
        """
        counts = Counter(word for text in texts for word in (text.lower() if lower_case else text).split())
        for name in names:
            counts.pop(name, None)
        frequent = sorted((-n, word) for word, n in counts.items() if n >= min_frequency)
        if not frequent:
            most = max(counts.values(), default=0)
            raise ConfigError(
                f"data.min_frequency: no word of the training texts comes {min_frequency} times or more often; use at "
                f"most {most}"
            )
        kept = [word for _, word in frequent[: None if size is None else size - len(names)]]
        return cls(_word_level([*names, *kept], names[3], lower_case), names)

    @classmethod
    def bpe(
        cls, texts: Iterable[str], *, size: int, lower_case: bool = False, names: Sequence[str] = SPECIAL
    ) -> Vocabulary:
        """Return pieces of words by byte pair encoding: Sennrich, Haddow and Birch, Neural Machine Translation of Rare
        Words with Subword Units (2016), https://arxiv.org/abs/1508.07909, on bytes as Radford et al., Language Models
        are Unsupervised Multitask Learners (2019), so that no text has an unknown token and blanks are kept.

        Args:
            texts: Training texts.
            size: Most tokens: special ones, 256 bytes, and merges.
            lower_case: Whether texts are lower-cased first.
            names: The tokens for padding, start, end and unknown.
        """
        library = load_tokenizers("data.tokens: bpe")
        tokenizer = library.Tokenizer(library.models.BPE())
        tokenizer.normalizer = library.normalizers.Lowercase() if lower_case else None
        tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = library.decoders.ByteLevel()
        trainer = library.trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=list(names),
            initial_alphabet=sorted(library.pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer, names)

    @classmethod
    def from_file(cls, path: Path, *, lower_case: bool = False, names: Sequence[str] = SPECIAL) -> Vocabulary:
        """Return the vocabulary in a file: ``.json`` as the library ``tokenizers`` writes it, else one word a line.

        Raises:
            DataError: The file is missing or neither of these.
        """
        if not path.is_file():
            raise DataError(
                f"data.vocabulary: there is no file {path.absolute()}; expected a tokenizer.json, or a list with one "
                "word a line"
            )
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"data.vocabulary: {path} is not UTF-8 text; save it as UTF-8") from error
        if path.suffix.lower() == ".json":
            return cls.from_json(text, str(path), lower_case=lower_case, names=names)
        words = [line.strip() for line in text.split("\n")]
        words = [word for word in dict.fromkeys(words) if word and word not in names]
        spaced = next((word for word in words if len(word.split()) > 1), None)
        if spaced is not None or not words:
            found = "it is empty" if spaced is None else f"found {spaced!r}"
            raise DataError(f"data.vocabulary: {path} is no list with one word a line: {found}; correct it")
        return cls(_word_level([*names, *words], names[3], lower_case), names)

    @classmethod
    def from_json(cls, text: str, path: str, *, lower_case: bool = False, names: Sequence[str] = SPECIAL) -> Vocabulary:
        """Return the vocabulary in ``text``, the content of the tokenizer file ``path``.

        Raises:
            DataError: It is none.
        """
        library = load_tokenizers("data.vocabulary")
        try:
            tokenizer = library.Tokenizer.from_str(text)
        except Exception as error:  # the library raises no narrower one
            raise DataError(
                f"data.vocabulary: {path} is no tokenizer file ({str(error).splitlines()[0]}); expected what "
                "Tokenizer.save of the library tokenizers writes"
            ) from error
        if lower_case:
            lower, own = library.normalizers.Lowercase(), tokenizer.normalizer
            tokenizer.normalizer = lower if own is None else library.normalizers.Sequence([lower, own])
        return cls(tokenizer, names)

    def to_json(self) -> str:
        """Return the content of a tokenizer file, from which :meth:`from_json` makes the same vocabulary."""
        content: str = self.tokenizer.to_str(pretty=True)
        return content

    def encode(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """Yield the ids of every text, without special tokens around them.

        A word that a text has in common with the tokens for padding, start or end comes out as that token; a source
        refuses such texts.
        """
        for start in range(0, len(texts), _CHUNK):
            # Some at a time: the library's records of a token are a hundred times as large as its id.
            for encoding in self.tokenizer.encode_batch_fast(texts[start : start + _CHUNK], add_special_tokens=False):
                yield encoding.ids

    def reserved(self, ids: Sequence[int]) -> str | None:
        """Return the first token among ``ids`` that no text may hold: padding, start or end; else None."""
        if self._reserved.isdisjoint(ids):
            return None
        return str(self.tokenizer.id_to_token(next(i for i in ids if i in self._reserved)))

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Return one text for each row of ids; a row ends before its first token for the end."""
        special, texts = self.special, []
        for row in rows:
            ids = list(row)
            ids = ids[: ids.index(special.end)] if special.end in ids else ids
            texts.append([i for i in ids if i not in (special.padding, special.start)])
        decoded: list[str] = self.tokenizer.decode_batch(texts, skip_special_tokens=False)
        return decoded

    def difference(self, other: Vocabulary) -> str:
        """Return what tells ``other`` from this vocabulary, in words; the empty string where both are equal."""
        if self.to_json() == other.to_json():
            return ""
        if self.size != other.size:
            return f"{other.size} tokens instead of {self.size}"
        for i in range(self.size):
            mine, theirs = self.tokenizer.id_to_token(i), other.tokenizer.id_to_token(i)
            if mine != theirs:
                return f"token {i} is {theirs!r} instead of {mine!r}"
        return "the same tokens, but other rules for dividing texts into them"


def _word_level(words: Sequence[str], unknown: str, lower_case: bool) -> Tokenizer:
    library = load_tokenizers("data.tokens: words")
    model = library.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=unknown)
    tokenizer: Tokenizer = library.Tokenizer(model)
    tokenizer.normalizer = library.normalizers.Lowercase() if lower_case else None
    tokenizer.pre_tokenizer = library.pre_tokenizers.WhitespaceSplit()
    return tokenizer
