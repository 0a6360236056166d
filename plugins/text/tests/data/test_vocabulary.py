"""Vocabularies: words by frequency, byte pair encoding, files, and the way back to text."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("tokenizers", reason="needs the extra 'text'")

from uncollapse.errors import ConfigError, DataError
from uncollapse.protocols import SpecialTokens
from uncollapse_text.data import Vocabulary

TEXTS = ["the soup was cold .", "the soup was good", "The view was good .", "soup <unk> soup"]


def ids(vocabulary: Vocabulary, *texts: str) -> list[list[int]]:
    return list(vocabulary.encode(list(texts)))


def test_words_come_by_frequency_and_then_by_alphabet() -> None:
    vocabulary = Vocabulary.words(TEXTS)
    counts = Counter(word for text in TEXTS for word in text.split() if word != "<unk>")
    expected = ["<pad>", "<s>", "</s>", "<unk>", *sorted(counts, key=lambda word: (-counts[word], word))]
    assert [vocabulary.tokenizer.id_to_token(i) for i in range(vocabulary.size)] == expected
    assert vocabulary.size == len(expected)
    assert vocabulary.special == SpecialTokens(0, 1, 2, 3)
    assert ids(vocabulary, "soup was hot") == [[expected.index("soup"), expected.index("was"), 3]]
    assert ids(vocabulary, "") == [[]]


def test_rare_words_are_unknown_and_the_size_is_kept() -> None:
    assert Vocabulary.words(TEXTS, min_frequency=2).size == 4 + 5
    vocabulary = Vocabulary.words(TEXTS, size=6)
    assert [vocabulary.tokenizer.id_to_token(i) for i in (4, 5)] == ["soup", "was"]
    assert ids(vocabulary, "good soup") == [[3, 4]]


def test_lower_case_is_the_vocabularys_business() -> None:
    vocabulary = Vocabulary.words(TEXTS, lower_case=True)
    assert ids(vocabulary, "THE Soup") == ids(vocabulary, "the soup")
    again = Vocabulary.from_json(vocabulary.to_json(), "x")
    assert ids(again, "THE Soup") == ids(vocabulary, "the soup")
    assert ids(Vocabulary.words(TEXTS), "THE")[0] == [3]


def test_no_word_left_is_an_error_that_says_how_rare_they_are() -> None:
    with pytest.raises(ConfigError, match=r"no word .* comes 9 times or more often; use at most 4"):
        Vocabulary.words(TEXTS, min_frequency=9)


def test_byte_pairs_know_every_text_and_give_it_back() -> None:
    vocabulary = Vocabulary.bpe(TEXTS * 5, size=300)
    assert 260 < vocabulary.size <= 300
    strange = ["Smörgås  漢字 🙂\ttab", " leading", "</s> is four characters here, <pad> five"]
    encoded = ids(vocabulary, *strange)
    assert not any(vocabulary.reserved(row) for row in encoded)
    assert not any(3 in row for row in encoded)
    assert vocabulary.decode(encoded) == strange
    # Frequent words have become pieces of their own.
    assert len(ids(vocabulary, "the soup was")[0]) < 6


def test_decoding_ends_at_the_end_and_leaves_padding_and_start_out() -> None:
    vocabulary = Vocabulary.words(TEXTS)
    (row,) = ids(vocabulary, "the soup")
    assert vocabulary.decode([[1, *row, 2, *row], [*row, 0, 0], [2], [3, *row, 2, 0]]) == [
        "the soup",
        "the soup",
        "",
        "<unk> the soup",
    ]


def test_words_that_stand_for_padding_start_or_end_are_told() -> None:
    vocabulary = Vocabulary.words(TEXTS)
    (row,) = ids(vocabulary, "the </s> soup")
    assert vocabulary.reserved(row) == "</s>"
    (row,) = ids(vocabulary, "the <unk> soup")
    assert vocabulary.reserved(row) is None
    assert row[1] == 3


def test_a_vocabulary_survives_its_file(tmp_path: Path) -> None:
    for vocabulary in (Vocabulary.words(TEXTS, lower_case=True), Vocabulary.bpe(TEXTS, size=270)):
        path = tmp_path / "tokenizer.json"
        path.write_text(vocabulary.to_json())
        again = Vocabulary.from_file(path)
        assert again.to_json() == vocabulary.to_json()
        assert ids(again, *TEXTS) == ids(vocabulary, *TEXTS)
        assert vocabulary.difference(again) == ""


def test_another_process_makes_the_same_bytes(tmp_path: Path) -> None:
    script = (
        "from uncollapse_text.data import Vocabulary\n"
        f"texts = {TEXTS * 3!r}\n"
        "for v in (Vocabulary.words(texts), Vocabulary.bpe(texts, size=290)): print(repr(v.to_json()))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    here = [Vocabulary.words(TEXTS * 3), Vocabulary.bpe(TEXTS * 3, size=290)]
    assert done.stdout.splitlines() == [repr(v.to_json()) for v in here]


def test_a_list_of_words_is_a_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text("<s>\nsoup\n\nthe\nsoup\n")
    vocabulary = Vocabulary.from_file(path)
    assert vocabulary.size == 6
    assert ids(vocabulary, "the soup was") == [[5, 4, 3]]


def test_a_strangers_tokenizer_gets_the_tokens_that_it_lacks(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(
        models.WordLevel({"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "soup": 3, "the": 7}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 2)])
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=9)
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    vocabulary = Vocabulary.from_file(path, names=("[PAD]", "[CLS]", "[SEP]", "[UNK]"))
    # Ids have gaps, and the end is new.
    assert vocabulary.special == SpecialTokens(padding=0, start=2, end=5, unknown=1)
    assert vocabulary.size == 8
    assert ids(vocabulary, "the soup the salt") == [[7, 3, 7, 1]]
    # The library would number all four on from 5, the count of the tokens, and 7 is taken.
    with pytest.raises(DataError, match=r"the ids have gaps, so that <pad>, <s>, </s>, <unk> cannot be added"):
        Vocabulary.from_file(path)


def test_files_that_are_no_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"model": 3}))
    with pytest.raises(DataError, match=r"data.vocabulary: .*tokenizer.json is no tokenizer file"):
        Vocabulary.from_file(path)
    words = tmp_path / "vocab.txt"
    words.write_text("soup\ntwo words\n")
    with pytest.raises(DataError, match=r"is no list with one word a line: found 'two words'"):
        Vocabulary.from_file(words)
    words.write_text("<pad>\n\n")
    with pytest.raises(DataError, match="it is empty"):
        Vocabulary.from_file(words)
    words.write_bytes(b"\xff")
    with pytest.raises(DataError, match="is not UTF-8 text"):
        Vocabulary.from_file(words)


def test_differences_are_told_in_words() -> None:
    vocabulary = Vocabulary.words(["a b"])
    assert vocabulary.difference(Vocabulary.words(["a b c"])) == "7 tokens instead of 6"
    assert vocabulary.difference(Vocabulary.words(["a c"])) == "token 5 is 'c' instead of 'b'"
    other = Vocabulary.words(["a b"], lower_case=True)
    assert vocabulary.difference(other) == "the same tokens, but other rules for dividing texts into them"
