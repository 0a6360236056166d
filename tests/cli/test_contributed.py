"""Commands, formats and pages that several distributions make together."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from uncollapse.cli import main


def output(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Run a command that must succeed, and return what it printed with single blanks."""
    capsys.readouterr()
    code = main(argv)
    said = capsys.readouterr()
    assert code == 0, said.err
    return re.sub(r"\s+", " ", said.out)


def test_sample_writes_a_picture(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = pytest.importorskip("PIL.Image", reason="looking at the picture needs Pillow")
    said = output(capsys, "sample", "runs/tiny", "--count", "10")
    assert said == "10 samples are in runs/tiny/samples.png "
    with image.open("runs/tiny/samples.png") as picture:
        # 4 columns and 3 rows of 8×8 with a gap of 1.
        assert picture.size == (35, 26)
        assert picture.getcolors() is not None


def test_vectors_are_no_picture(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("d.npz", x=np.random.default_rng(0).normal(size=(60, 3)))
    changes = ["data={type: arrays, path: d.npz, batch_size: 20}", "model.decoder.likelihood=gaussian", "evaluation={}"]
    assert main(["train", "p.yaml", "--quiet", *(part for change in changes for part in ("--set", change))]) == 0
    assert output(capsys, "sample", "runs/tiny") == "64 samples are in runs/tiny/samples.npz "
    assert main(["sample", "runs/tiny", "--output", "x.png"]) == 2
    assert capsys.readouterr().err == (
        "error: --output x.png: the run's data have shape (3,) and support 'real', which is no picture; use a name "
        "that ends in .npz\n"
    )


def test_report_on_one_run_and_on_two(
    finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("plotly", reason="needs the extra 'report'")
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert output(capsys, "report", "runs/tiny", "--open") == "Written to runs/tiny/report.html "
    assert opened == [f"file://{finished}/runs/tiny/report.html"]
    assert output(capsys, "report", "runs/tiny", "runs/tiny") == "Written to report.html "
    assert "tiny" in Path("report.html").read_text(encoding="utf-8")


def test_demo_is_handed_what_was_asked(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, object] = {}

    def run_demo(folder: Path, seeds: int, *, quiet: bool, console: object) -> Path:
        asked.update(folder=folder, seeds=seeds, quiet=quiet)
        return folder / "report.html"

    monkeypatch.setattr("uncollapse_report.cli.run_demo", run_demo)
    said = output(capsys, "demo", "--seeds", "3", "--runs", "there", "--quiet")
    assert asked == {"folder": Path("there"), "seeds": 3, "quiet": True}
    assert said == "Written to there/report.html "
