"""The demo, shortened: every file it promises, and what it does when it is run again."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from uncollapse.errors import RunDirectoryError
from uncollapse.pipeline import Pipeline
from uncollapse_report.demo import demo_pipelines, run_demo
from uncollapse_report.demo import run as demo_module

KEYS = [
    "name",
    "seed",
    "latent_dim",
    "rate",
    "distortion",
    "nll",
    "mutual_information",
    "active_units",
    "knn_accuracy",
    "logistic_accuracy",
]


def test_remedies_change_the_remedy_only() -> None:
    plain, *others = (p.config.model_dump(mode="json") for p in demo_pipelines().values())
    assert plain["name"] == "vae"
    assert plain["regularizers"] == []
    assert others
    for other in others:
        # A remedy may reshape the moments of the posterior; its family and its size stay.
        for moment in ("moments", "logvar_range"):
            other["model"]["posterior"][moment] = plain["model"]["posterior"][moment]
        for same in ("data", "model", "evaluation", "training", "seed"):
            assert other[same] == plain[same], f"{other['name']} changes {same}"


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    full = demo_pipelines

    def shortened(seed: int = 0) -> dict[str, Pipeline]:
        changes = ["training.epochs=1", "data.limit=100", "evaluation.examples=60", "model.decoder.kernels=[3, 3]"]
        return {
            name: Pipeline.from_dict(p.config.model_dump(mode="json"), changes)
            for name, p in full(seed).items()
            if name in ("vae", "mae")
        }

    monkeypatch.setattr(demo_module, "demo_pipelines", shortened)


@pytest.mark.usefixtures("short")
def test_demo_leaves_what_it_promises(tmp_path: Path) -> None:
    out = Console(file=io.StringIO(), width=160)
    page = run_demo(tmp_path / "demo", seeds=2, quiet=True, console=out)
    rows = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert [list(row) for row in rows] == [KEYS] * 4
    assert [(row["name"], row["seed"]) for row in rows] == [("vae", 0), ("mae", 0), ("vae", 1), ("mae", 1)]
    assert all(isinstance(row[key], int | float) for row in rows for key in KEYS[1:])
    assert all(0 <= row[key] <= 1 for row in rows for key in ("knn_accuracy", "logistic_accuracy"))
    assert page.read_text().startswith("<!doctype html>")
    table = out.file.getvalue()
    assert "mean ± standard error over 2 seeds" in table
    assert table.count("±") > 10

    # A second call trains nothing again.
    before = (tmp_path / "demo" / "vae-seed0" / "metrics.jsonl").stat().st_mtime_ns
    again = Console(file=io.StringIO(), width=160)
    run_demo(tmp_path / "demo", seeds=2, quiet=True, console=again)
    assert again.file.getvalue().count("trained already") == 4
    assert (tmp_path / "demo" / "vae-seed0" / "metrics.jsonl").stat().st_mtime_ns == before


@pytest.mark.usefixtures("short")
def test_demo_never_overwrites_another_run(tmp_path: Path) -> None:
    other = Pipeline.from_dict(
        demo_module.demo_pipelines()["vae"].config.model_dump(mode="json"), ["training.epochs=2"]
    )
    directory = tmp_path / "demo" / "vae-seed0"
    other.fit(directory, quiet=True)
    kept = (directory / "pipeline.yaml").read_bytes()
    with pytest.raises(RunDirectoryError, match="holds a run of another pipeline"):
        run_demo(tmp_path / "demo", quiet=True, console=Console(file=io.StringIO()))
    assert (directory / "pipeline.yaml").read_bytes() == kept
