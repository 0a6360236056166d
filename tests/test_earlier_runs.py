"""Pipelines and run directories that were written before the core was cut still load, measure the same, and go on.

``runs_before_the_split`` holds pipelines and the runs that the last undivided core made of them; their parts live in four
distributions today.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from structure import ROOT
from uncollapse import Pipeline
from uncollapse.cli import main
from uncollapse.evaluation import evaluate
from uncollapse.training import Run

HERE = ROOT / "tests" / "runs_before_the_split"
NAMES = sorted(p.stem for p in HERE.glob("*.yaml"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(HERE, tmp_path / "earlier", symlinks=True)
    monkeypatch.chdir(tmp_path / "earlier")
    return tmp_path / "earlier"


def test_there_are_some() -> None:
    assert len(NAMES) >= 3


@pytest.mark.parametrize("name", NAMES)
def test_a_pipeline_resolves_to_what_it_did(name: str, folder: Path) -> None:
    assert Pipeline.from_yaml(f"{name}.yaml").config == Run(name).config


@pytest.mark.parametrize("name", NAMES)
def test_a_run_loads_and_measures_the_same(name: str, folder: Path) -> None:
    run = Run(name)
    before = run.results
    assert before is not None
    found = evaluate(run.load(), run.config.evaluation, run.config.seed)
    assert before["estimates"]
    for section in ("estimates", "probes"):
        assert found[section].keys() == before[section].keys()
        for key, record in before[section].items():
            assert found[section][key]["value"] == pytest.approx(record["value"], rel=1e-4, abs=1e-6), key


@pytest.mark.parametrize("name", NAMES)
def test_a_run_goes_on(name: str, folder: Path) -> None:
    run = Run(name)
    steps, epochs = run.checkpoints.open("last").step, run.config.training.epochs
    more = f"training.epochs={epochs + 1}"
    assert main(["train", f"{name}.yaml", "--runs", ".", "--resume", "--quiet", "--set", more]) == 0
    assert Run(name).checkpoints.open("last").step > steps


@pytest.mark.parametrize("name", NAMES)
def test_commands_of_other_distributions_take_it(name: str, folder: Path) -> None:
    assert main(["report", name]) == 0
    assert main(["diagnose", name, "--refined-examples", "0"]) == 0
