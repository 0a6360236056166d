"""Commands on runs of texts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from uncollapse.cli import main
from uncollapse.pipeline import Pipeline
from uncollapse.training.run import Run
from uncollapse_text.lines import as_lines


def output(capsys: pytest.CaptureFixture[str], *argv: str) -> list[str]:
    """Run a command that must succeed, and return the lines that it printed."""
    capsys.readouterr()
    code = main(argv)
    said = capsys.readouterr()
    assert code == 0, said.err
    return said.out.splitlines()


WORDS = {"the", "a", "soup", "waiter", "place", "cake", "garden", "view", "was", "very", "bad", "cold", "awful"}
WORDS |= {"great", "lovely", "nice", "and", ".", "<unk>"}


def test_training_keeps_the_vocabulary_and_counts_the_steps(finished_texts: Path) -> None:
    run = Run("runs/tiny")
    assert sorted(p.name for p in run.artifacts.iterdir()) == ["tokenizer.json", "vocabulary.json"]
    built = run.load()
    assert set(built.data.vocabulary.tokenizer.get_vocab()) == {*WORDS, "<pad>", "<s>", "</s>"}
    steps = built.data.train.steps(16)
    # Sentences of four lengths, 120 in all: more batches than 120 / 16 would be.
    assert steps > 8
    assert built.context.steps_per_epoch == steps
    rows = [row for row in run.metrics() if row["split"] == "train"]
    assert rows[-1]["step"] == 2 * steps
    assert rows[-1]["epoch"] == 2.0
    assert run.results["examples"] == 30


@pytest.mark.parametrize("changes", [[], ["data.batching=padded", "training.drop_last=true"]])
def test_an_interrupted_run_of_texts_goes_on_bit_for_bit(
    texts: Path, changes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = [part for change in ["training.checkpoint_every_steps=2", *changes] for part in ("--set", change)]
    train = ["train", "p.yaml", "--quiet", *sets]
    assert main([*train, "--name", "whole"]) == 0

    from uncollapse.objectives import ELBO

    call = ELBO.__call__

    def interrupted(self: ELBO, model: object, batch: object, progress: object) -> object:
        if progress.step == 11 and not progress.final:
            raise KeyboardInterrupt
        return call(self, model, batch, progress)

    monkeypatch.setattr(ELBO, "__call__", interrupted)
    assert main([*train, "--name", "parts"]) == 130
    monkeypatch.setattr(ELBO, "__call__", call)
    assert main([*train, "--name", "parts", "--resume"]) == 0
    whole, parts = (Run(f"runs/{name}") for name in ("whole", "parts"))
    one, other = (run.checkpoints.open("last").weights() for run in (whole, parts))
    assert all(torch.equal(one[name], other[name]) for name in one)
    for name in ("tokenizer.json", "vocabulary.json"):
        assert (whole.artifacts / name).read_bytes() == (parts.artifacts / name).read_bytes()


def test_a_run_is_loaded_with_the_vocabulary_that_it_kept(finished_texts: Path) -> None:
    built = Run("runs/tiny").load()
    fresh = Pipeline.from_yaml("p.yaml").build()
    for part in ("train", "test"):
        for a, b in zip(getattr(built.data, part).batches(7), getattr(fresh.data, part).batches(7), strict=True):
            assert torch.equal(a.x, b.x)


def test_no_step_has_too_few_texts(texts: Path) -> None:
    smallest = min(len(batch) for batch in Pipeline.from_yaml("p.yaml").build().data.train.batches(16))
    assert main(["train", "p.yaml", "--quiet", "--set", f"data.smallest_batch={smallest + 1}"]) == 0
    run = Run("runs/tiny")
    train = run.load().data.train
    sizes = [len(batch) for batch in train.batches(16)]
    assert min(sizes) > smallest
    assert (
        [row for row in run.metrics() if row["split"] == "train"][-1]["step"] == 2 * len(sizes) == 2 * train.steps(16)
    )


def test_evaluation_measures_probes_and_a_random_part(finished_texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    estimators = "[elbo, {type: nll, samples: 5}, mutual_information, active_units, kl_per_dimension]"
    output(
        capsys, "evaluate", "runs/tiny", "--set", f"evaluation.estimators={estimators}", "--set",
        "evaluation.probes=[{type: knn, neighbors: 3}, logistic]", "--set", "evaluation.examples=20",
    )  # fmt: skip
    results = Run("runs/tiny").results
    assert results["skipped"] == {}
    assert (results["examples"], results["classes"]) == (20, 2)
    assert {"nll", "mutual_information", "active_units"} <= set(results["estimates"])
    assert "bits_per_dimension" not in results["estimates"]
    assert results["estimates"]["elbo"]["count"] == 20
    assert set(results["probes"]) == {"knn_accuracy", "logistic_accuracy"}


def test_padding_and_batches_change_no_measured_number(finished_texts: Path) -> None:
    for name, batch_size in (("a.json", 1), ("b.json", 30)):
        change = f"evaluation={{estimators: [{{type: elbo, rate: analytic}}], batch_size: {batch_size}}}"
        assert main(["evaluate", "runs/tiny", "--set", change, "--output", name]) == 0
    one, other = (json.loads(Path(name).read_text())["estimates"]["rate"]["value"] for name in ("a.json", "b.json"))
    assert one == pytest.approx(other, rel=1e-5)


def test_equal_length_and_padded_validate_to_the_same_loss(texts: Path) -> None:
    for batching in ("equal_length", "padded"):
        command = ["train", "p.yaml", "--quiet", "--name", batching, "--set", f"data.batching={batching}"]
        # With a learning rate of nothing both are the same model, and the posterior's mean stands for its samples.
        frozen = ["training.optimizer.lr=1e-12", "training.epochs=1", "objective={type: elbo, samples: 100}"]
        assert main([*command, *(part for change in frozen for part in ("--set", change))]) == 0
    rows = [
        [r for r in Run(f"runs/{b}").metrics() if r["split"] == "validation"][-1] for b in ("equal_length", "padded")
    ]
    assert rows[0]["rate"] == pytest.approx(rows[1]["rate"], rel=1e-5)
    assert rows[0]["loss"] == pytest.approx(rows[1]["loss"], rel=1e-3)


def test_samples_are_lines(finished_texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = output(capsys, "sample", "runs/tiny", "-n", "12")
    assert said[-1] == "12 samples are in runs/tiny/samples.txt"
    lines = Path("runs/tiny/samples.txt").read_text().splitlines()
    assert len(lines) == 12
    assert said[:-1] == lines[:10]
    assert {word for line in lines for word in line.split()} <= WORDS
    output(capsys, "sample", "runs/tiny", "-n", "12", "-o", "again.txt")
    assert Path("again.txt").read_text().splitlines() == lines
    output(capsys, "sample", "runs/tiny", "-n", "12", "-o", "tokens.npz")
    with np.load("tokens.npz") as arrays:
        assert arrays["x"].dtype == np.int64
        assert Run("runs/tiny").load().data.to_texts(torch.from_numpy(arrays["x"])) == lines


def test_texts_of_the_prior_can_be_decoded(finished_texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    greedy = output(capsys, "texts", "runs/tiny", "-n", "9")
    drawn = output(capsys, "texts", "runs/tiny", "-n", "9", "--decoding", "sample", "--temperature", "5")
    assert len(greedy) == len(drawn) == 9
    # Two epochs: hardly anything depends on the code yet, so that what is likeliest is mostly the same.
    assert len(set(greedy)) < len(set(drawn)) == 9


def test_a_text_with_line_breaks_is_one_line() -> None:
    assert as_lines(["the soup\nwas \r\ncold", "", "."]) == ["the soup was  cold", "", "."]


def test_reconstructions_stand_below_their_texts(finished_texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = output(capsys, "texts", "runs/tiny", "--reconstruct", "4")
    known = {line for c in "01" for line in Path(f"test.{c}").read_text().splitlines()}
    assert len(said) == 8
    assert set(said[::2]) <= known
    assert all(line.startswith("  ") for line in said[1::2])
    assert output(capsys, "texts", "runs/tiny", "--reconstruct", "4") == said
    assert output(capsys, "texts", "runs/tiny", "--reconstruct", "4", "--seed", "1")[::2] != said[::2]
    drawn = output(capsys, "texts", "runs/tiny", "--reconstruct", "4", "--decoding", "sample")
    assert drawn[::2] == said[::2]
    assert drawn != said
    assert output(capsys, "texts", "runs/tiny", "--reconstruct", "4", "-o", "r.txt") == ["8 lines are in r.txt"]
    assert Path("r.txt").read_text().splitlines() == said


@pytest.mark.parametrize("decoding", ["greedy", "beam", "sample"])
def test_the_way_between_two_sentences(finished_texts: Path, decoding: str, capsys: pytest.CaptureFixture[str]) -> None:
    ends = ("the soup was bad .", "a view was very lovely and nice .")
    said = output(capsys, "texts", "runs/tiny", "--between", *ends, "--steps", "4", "--decoding", decoding)
    assert len(said) == 4
    assert {word for line in said for word in line.split()} <= WORDS


def test_a_report_on_texts(finished_texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("plotly", reason="needs the extra 'report'")
    assert output(capsys, "report", "runs/tiny") == ["Written to runs/tiny/report.html"]
    page = Path("runs/tiny/report.html").read_text(encoding="utf-8")
    body = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    for words in (
        "Reconstructed texts",
        "Between two texts",
        "Texts from the prior",
        "The likeliest token one after the other.",
    ):
        assert words in body
    assert "sequences of tokens" not in body
    inputs = re.findall(r"<dt>input</dt><dd>(.*?)</dd>", body)
    known = {line for c in "01" for line in Path(f"test.{c}").read_text().splitlines()}
    assert len(inputs) == 8
    assert set(inputs) <= known
    assert len(re.findall(r"<dt>decoded</dt>", body)) == len(re.findall(r"<dt>sample</dt>", body)) == 8
    # Spread over the split in the order of its files, one a class.
    assert len({" soup " in t or " waiter " in t or " place " in t for t in inputs}) == 2


ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("name", ["yelp", "yelp-small"])
def test_the_pipelines_for_yelp_train_on_files_of_their_form(texts: Path, name: str) -> None:
    sentences = {
        (part, c): (texts / f"{part}.{c}").read_text().splitlines() for part in ("train", "test") for c in "01"
    }
    for (part, c), of_class in sentences.items():
        (texts / f"sentiment.{'test' if part == 'train' else 'dev'}.{c}").write_text("\n".join(of_class * 2))
    for part, source in (("train", "train"), ("valid", "test"), ("test", "test")):
        rows = [f"{c}\t{sentence}" for c in "01" for sentence in sentences[source, c]]
        (texts / f"yelp.{part}.txt").write_text("\n".join(rows) + "\n")
    (texts / "vocab.txt").write_text("\n".join(["<pad>", "<s>", "</s>", "<unk>", *sorted(WORDS - {"<unk>"})]))
    changes = ["data.root=.", "model.encoder.hidden=8", "model.decoder.hidden=8", "training.epochs=1"]
    changes += ["objective.rate_weight.until_epoch=1"]
    changes += ["data.vocabulary=vocab.txt"] if name == "yelp" else ["data.limit=200", "data.validation=20"]
    estimators = "[{type: perplexity, samples: 3}, mutual_information]"
    changes += [f"evaluation.estimators={estimators}", "evaluation.probes=[{type: logistic, labels: [20]}]"]
    command = ["train", str(ROOT / "examples" / "text" / f"{name}.yaml"), "--quiet"]
    assert main([*command, *(part for change in changes for part in ("--set", change))]) == 0
    results = Run(f"runs/{name}").results
    assert results["skipped"] == {}
    assert {"perplexity", "nll", "mutual_information"} <= set(results["estimates"])
    assert results["classes"] == 2
