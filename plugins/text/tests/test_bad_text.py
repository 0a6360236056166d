"""What goes wrong with texts ends in one message: where, what was found, what is allowed, and the likely fix.

The same kind of table as that of the other bad inputs; nothing may be left in the folder of runs.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from command_fixtures import PARTS, points_of
from uncollapse.cli import main
from uncollapse.plugins import registry
from uncollapse_text.data import Vocabulary

Prepare = Callable[[Path, pytest.MonkeyPatch], None]
PAIRS = "data={type: text_lines, train: pairs, labels: column, batch_size: 8}"


@dataclass(frozen=True)
class Row:
    """A command line that must fail.

    Args:
        name: What is wrong.
        argv: The command line; ``train p.yaml --quiet`` and overrides where it is a tuple of ``path=value``. Blanks
            inside an argument are written as tabs.
        message: What stderr must say after ``error: ``; ``{here}`` stands for the current folder.
        prepare: Makes the circumstances.
    """

    name: str
    argv: str | tuple[str, ...]
    message: str
    prepare: Prepare | None = None

    def command(self) -> list[str]:
        if isinstance(self.argv, str):
            return [part.replace("\t", " ") for part in self.argv.split(" ")]
        return ["train", "p.yaml", "--quiet", *(part for override in self.argv for part in ("--set", override))]


def wrong(path_and_problem: str) -> str:
    return f"p.yaml: 1 error\n  {path_and_problem}"


def write(name: str, content: str | bytes, **more: str) -> Prepare:
    def prepare(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for file, text in {name: content, **more}.items():
            (folder / file).write_bytes(text.encode() if isinstance(text, str) else text)

    return prepare


def without(*packages: str) -> Prepare:
    def prepare(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in ("vocabulary", "hugging_face"):
            monkeypatch.setattr(
                f"uncollapse_text.data.{module}.find_spec", lambda name: None if name in packages else object()
            )

    return prepare


def with_datasets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets", reason="needs the extra 'text'")


HUB = "data={type: huggingface, dataset: text, data_files: train.0, cache: here}"

DATA = [
    Row(
        "a text that is too long",
        ("data.max_length=5",),
        "data.train: train.0, line 1 has 6 tokens, more than the 5 that data.max_length allows, as have 81 more; set "
        "data.max_length: 8, or data.too_long: truncate or drop",
    ),
    Row(
        "texts that are all too long",
        ("data.max_length=1", "data.too_long=drop"),
        "data.train: all 120 texts have more tokens than data.max_length, 1, allows; raise it, or set data.too_long: "
        "truncate",
    ),
    Row(
        "an empty line",
        (),
        "data.train: train.1, line 2 is empty; remove it, or set data.empty: skip",
        write("train.1", "the view was nice .\n\nthe cake was nice .\n"),
    ),
    Row(
        "several empty lines",
        (),
        "data.validation: dev.0, line 1 is empty, as are 2 more; remove it, or set data.empty: skip",
        write("dev.0", " \nthe soup was bad .\n\n\t\n"),
    ),
    Row(
        "empty lines only",
        ("data.empty=skip", "data.labels=none", "data.label_names=[]", "data.train=empty"),
        "data.train: all 2 texts are empty; give it at least one",
        write("empty", "\n\n"),
    ),
    Row("an empty file", (), "data.train: train.0 is empty; give it at least one line of text", write("train.0", "")),
    Row(
        "no file",
        ("data.test=[none.0, none.1]",),
        "data.test: there is no file {here}/none.0; correct data.test, or data.root, the folder that names are relative to",
    ),
    Row(
        "a folder for a file",
        ("data.root=/nowhere",),
        "data.train: there is no file /nowhere/train.0; correct data.train, or data.root, the folder that names are "
        "relative to",
    ),
    Row(
        "bytes that are no text",
        (),
        "data.train: train.0, line 2 is not UTF-8 text: found the byte 0xe9; save the file as UTF-8",
        write("train.0", "the soup\nthe café\n".encode("latin-1")),
    ),
    Row(
        "fewer files than classes",
        ("data.test=[test.0]",),
        wrong(
            "data: test: found 1 files, but train has 2, one a class; give every part one file for each class, in the "
            "same order"
        ),
    ),
    Row(
        "names for other classes",
        ("data.label_names=[bad, good, ugly]",),
        wrong("data: label_names: found 3 for 2 files; give one for each"),
    ),
    Row(
        "names without classes",
        ("data.labels=none",),
        wrong("data: label_names: are for labels: files, found labels: none; leave them out"),
    ),
    Row(
        "a line without a label",
        (PAIRS,),
        "data.train: pairs, line 2 has no tab; data.labels: column expects label<TAB>text on every line; correct it, or "
        "set data.labels: none",
        write("pairs", "1\tthe soup\nthe view\n"),
    ),
    Row(
        "a label that training does not have",
        (f"{PAIRS[:-1]}, test: tests}}",),
        "data.test: tests, line 2 has the label '2', which no training text has; known: 0, 1",
        write("pairs", "1\ta\n0\tb\n" * 9, tests="1\ta\n2\tb\n"),
    ),
    Row(
        "an empty labelled line",
        (PAIRS,),
        "data.train: pairs, line 2 is empty, as are 1 more; remove it, or set data.empty: skip",
        write("pairs", "1\tthe soup\n1\t \n\n0\tthe view\n"),
    ),
    Row(
        "a text that holds a special token",
        (),
        "data.train: train.0, line 1 holds '<s>', which stands for padding, start or end; remove it, or write these "
        "tokens otherwise with data.special_tokens",
        write("train.0", "<s> the soup\n"),
    ),
    Row(
        "no batch large enough",
        ("data.smallest_batch=17",),
        wrong("data: smallest_batch: 17 is more than batch_size, 16, so no batch is left; use at most as many"),
    ),
    Row(
        "more texts held out than there are",
        ("data={type: text_lines, train: train.0, test: 60}",),
        "data.test: 60 examples cannot be held out for test, there are 60; use 1 to 59",
    ),
]  # fmt: skip

VOCABULARY = [
    Row(
        "no vocabulary file",
        ("data.vocabulary=none.json",),
        "data.vocabulary: there is no file {here}/none.json; expected a tokenizer.json, or a list with one word a line",
    ),
    Row(
        "a file that is no tokenizer",
        ("data.vocabulary=p.json",),
        "data.vocabulary: p.json is no tokenizer file (expected ident at line 1 column 2); expected what Tokenizer.save of "
        "the library tokenizers writes",
        write("p.json", "name: x"),
    ),
    Row(
        "a vocabulary from a file and from the texts",
        ("data.vocabulary=v.json", "data.min_frequency=2"),
        wrong(
            "data: min_frequency: a vocabulary is made of the texts or read from a file, found both min_frequency and "
            "vocabulary; leave one of them out"
        ),
    ),
    Row(
        "too few tokens for bytes",
        ("data.tokens=bpe", "data.vocabulary_size=100"),
        wrong(
            "data: vocabulary_size: 100 tokens are too few; the special tokens and 256 bytes need 260, so use at least that"
        ),
    ),
    Row(
        "words that are all rare",
        ("data.min_frequency=1000",),
        "data.min_frequency: no word of the training texts comes 1000 times or more often; use at most 120",
    ),
    Row(
        "one name for two tokens",
        ("data.special_tokens={padding: </s>}",),
        wrong("data.special_tokens: four different tokens are needed, found </s>, <s>, </s>, <unk>"),
    ),
    Row(
        "no library for tokens",
        (),
        "data.type: text_lines needs the package 'tokenizers', which is not installed. Install it with: pip install "
        "'uncollapse[text]'",
        without("tokenizers"),
    ),
]  # fmt: skip

HUGGING_FACE = [
    Row(
        "no library for data sets",
        (HUB,),
        "data.type: huggingface needs the package 'datasets', which is not installed. Install it with: pip install "
        "'uncollapse[text]'",
        without("datasets"),
    ),
    Row(
        "a stream without an end",
        (f"{HUB[:-1]}, streaming: true}}",),
        wrong("data: take: streaming needs to know how many texts to read from each split; set take"),
    ),
    Row(
        "an end without a stream",
        (f"{HUB[:-1]}, take: 5}}",),
        wrong("data: take: is for streaming; set streaming: true, or use limit for fewer training texts"),
    ),
    Row(
        "no column of texts",
        (f"{HUB[:-1]}, text: review}}",),
        "data.text: 'text' has no column 'review'; its columns: text",
        with_datasets,
    ),
]

MODEL = [
    Row(
        "an image encoder for texts",
        ("model.encoder={type: conv}",),
        "model.encoder: convolutions need images of shape (C, H, W), but the data have event shape (9,); use the type "
        "'mlp', or data of images",
    ),
    Row(
        "an image decoder for texts",
        ("model.decoder={type: conv}",),
        "model.decoder.likelihood: 'bernoulli' models data whose support is binary or unit_interval, but data 'text_lines' "
        "are tokens; choose another decoder",
    ),
    Row(
        "a decoder of texts for images",
        ("data={type: digits}", "model.encoder=mlp"),
        "model.decoder: 'lstm' models data whose support is tokens, but data 'digits' are unit_interval; choose another "
        "decoder",
    ),
    Row(
        "an encoder of texts for images",
        ("data={type: digits}", "model.decoder=mlp"),
        "model.encoder: 'lstm' reads texts, data of shape (T,) whose support is tokens with a vocabulary_size; found shape "
        "(1, 8, 8), support 'unit_interval'; use data of texts, or another encoder",
    ),
    Row(
        "an encoder of numbers for texts",
        ("model.encoder=mlp",),
        "model.encoder: 'mlp' reads numbers, but the data are tokens; use an encoder of texts, lstm say",
    ),
    Row(
        "a distance between texts",
        ("evaluation.estimators=[reconstruction_error]",),
        "evaluation.estimators: 'reconstruction_error' is a squared distance, which tokens do not have; use 'elbo' (its "
        "distortion) instead",
    ),
]


def other_texts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "train.0").write_text("the soup was bad .\n" * 59)


def other_vocabulary(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "runs/tiny/data/tokenizer.json").write_text(Vocabulary.words(["another run"]).to_json())


def no_vocabulary(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "runs/tiny/data/vocabulary.json").unlink()


def longer_test(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "test.1").write_text("the view was nice .\n" + "nice " * 30)


CHANGED = (
    "data.train: the training texts are not those that the run's vocabulary was made of (120 texts then, 119 now); bring "
    "the files back, or train another run"
)
FINISHED = [
    Row("resuming with other texts", "train p.yaml --quiet --resume --set training.epochs=3", CHANGED, other_texts),
    Row("measuring with other texts", "evaluate runs/tiny", CHANGED, other_texts),
    Row("sampling with other texts", "sample runs/tiny", CHANGED, other_texts),
    Row(
        "a vocabulary of another run",
        "evaluate runs/tiny",
        "runs/tiny/data/tokenizer.json: not the vocabulary that the run was trained with (its SHA-256 differs from that in "
        "vocabulary.json); bring the file back, or train another run",
        other_vocabulary,
    ),
    Row(
        "no vocabulary in the run",
        "texts runs/tiny --reconstruct 2",
        "runs/tiny/data/vocabulary.json: missing; a run of texts needs the vocabulary that it was trained with",
        no_vocabulary,
    ),
    Row(
        "a longer test text than the run has seen",
        "evaluate runs/tiny",
        "data.test: test.1, line 2 has 30 tokens, more than the 8 that data.max_length allows; set data.max_length: 30, or "
        "data.too_long: truncate or drop",
        longer_test,
    ),
    Row(
        "resuming with another vocabulary",
        "train p.yaml --quiet --resume --set data.vocabulary=runs/tiny/data/tokenizer.json",
        "runs/tiny holds a run of another pipeline: data.vocabulary was None, now 'runs/tiny/data/tokenizer.json'. Resume it "
        "with its own pipeline (runs/tiny/pipeline.yaml), or give this one another name",
    ),
    Row(
        "a picture of texts",
        "sample runs/tiny --output x.png",
        "--output x.png: the run's data have shape (9,) and support 'tokens', which is no picture; use a name that ends in "
        ".txt or .npz",
    ),
    Row(
        "reconstructions in another format",
        "texts runs/tiny --reconstruct 3 --output x.npz",
        "--output x.npz: expected a name that ends in .txt, found '.npz'",
    ),
    Row(
        "more reconstructions than texts",
        "texts runs/tiny --reconstruct 31",
        "--reconstruct 31: the test split has 30 texts; use at most as many",
    ),
    Row(
        "a sentence that is too long",
        "texts runs/tiny --between the\tsoup the\tthe\tthe\tthe\tthe\tthe\tthe\tthe\tthe",
        "'the the the the the the the the the' has 9 tokens; expected 1 to 8, as the run's data have",
    ),
    Row(
        "no sentence",
        "texts runs/tiny --between the\tsoup \t",
        "' ' has 0 tokens; expected 1 to 8, as the run's data have",
    ),
]  # fmt: skip

IMAGES = [
    Row(
        "images that are to be decoded",
        "texts runs/tiny",
        "uncollapse texts: the run's data, 'digits', are no texts; a report shows what the model makes of them",
    ),
    Row(
        "texts of images",
        "sample runs/tiny --output x.txt",
        "--output x.txt: the run's data have shape (1, 8, 8) and support 'binary', which is no text; use a name that ends in "
        ".png or .npz",
    ),
    Row(
        "reconstructed texts of images",
        "texts runs/tiny --reconstruct 2",
        "--reconstruct: the run's data, 'digits', are no texts; a report shows what the model makes of them",
    ),
    Row(
        "sentences between images",
        "texts runs/tiny --between a b",
        "--between: the run's data, 'digits', are no texts; a report shows what the model makes of them",
    ),
]

ROWS = [
    *((row, "texts") for row in (*DATA, *VOCABULARY, *HUGGING_FACE, *MODEL)),
    *((row, "finished_texts") for row in FINISHED),
    *((row, "finished") for row in IMAGES),
]


@pytest.fixture(autouse=True, scope="module")
def only_parts() -> Iterator[None]:
    """Leave the remedies out: what they add is not this table's business."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        parts = points_of(*PARTS)
        monkeypatch.setattr("uncollapse.plugins.manager.entry_points", lambda group: parts)
        registry.cache_clear()
        yield
    registry.cache_clear()


def everything_in(folder: Path) -> dict[str, bytes | None]:
    runs = folder / "runs"
    return {str(p.relative_to(runs)): p.read_bytes() if p.is_file() else None for p in sorted(runs.rglob("*"))}


@pytest.mark.parametrize(("row", "place"), ROWS, ids=[row.name for row, _ in ROWS])
def test_a_bad_input_of_texts_ends_in_one_message(
    row: Row,
    place: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here: Path = request.getfixturevalue(place)
    if row.prepare is not None:
        row.prepare(here, monkeypatch)
    before = everything_in(here)
    capsys.readouterr()
    with warnings.catch_warnings():
        # A warning of a library would be a second message.
        warnings.simplefilter("error")
        code = main(row.command())
    said = capsys.readouterr()
    assert said.err == f"error: {row.message.replace('{here}', str(here))}\n"
    assert "Traceback" not in said.out
    assert code == 2
    assert everything_in(here) == before


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("--count 3 --reconstruct 2", "--count needs no --reconstruct and no --between"),
        ("--reconstruct 2 --between a b", "--reconstruct needs no --between"),
        ("--steps 3", "--steps needs --between"),
        ("--beam-size 3", "--beam-size needs --decoding beam"),
        ("--reconstruct 2 --decoding greedy --temperature 0.5", "--temperature needs --decoding sample"),
    ],
)
def test_options_that_would_do_nothing(
    options: str, problem: str, finished_texts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["texts", "runs/tiny", *options.split()]) == 2
    assert problem in capsys.readouterr().err


def test_a_changed_file_of_the_vocabulary_is_told(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sentences = [line for c in "01" for line in (texts / f"train.{c}").read_text().splitlines()]
    path = texts / "tokenizer.json"
    path.write_text(Vocabulary.words(sentences).to_json())
    assert main(["train", "p.yaml", "--quiet", "--set", "data.vocabulary=tokenizer.json"]) == 0
    capsys.readouterr()
    changed = json.loads(path.read_text())
    vocabulary = changed["model"]["vocab"]
    vocabulary["."], vocabulary["was"] = vocabulary["was"], vocabulary["."]
    path.write_text(json.dumps(changed))
    assert main(["evaluate", "runs/tiny"]) == 2
    assert capsys.readouterr().err == (
        "error: data.vocabulary: tokenizer.json is not the vocabulary that the run was trained with: it has token 4 is "
        "'was' instead of '.'; bring the file back, or train another run\n"
    )
