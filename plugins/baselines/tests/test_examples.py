"""The pipelines: every one is valid, the reduced ones build and take a step."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from uncollapse import Pipeline
from uncollapse.config.load import load_config

PIPELINES = sorted((Path(__file__).resolve().parents[3] / "examples" / "baselines").glob("*.yaml"))
REDUCED = [path for path in PIPELINES if path.stem.endswith("-small")]


@pytest.mark.parametrize("path", PIPELINES, ids=lambda p: p.stem)
def test_pipelines_are_valid(path):
    config = load_config(path)
    assert config.name == path.stem


def test_every_remedy_has_a_full_and_a_reduced_pipeline():
    names = {path.stem for path in PIPELINES}
    assert len(REDUCED) >= 8
    assert {path.stem.removesuffix("-small") for path in REDUCED} == names - {path.stem for path in REDUCED}


@pytest.mark.parametrize("path", REDUCED, ids=lambda p: p.stem)
def test_reduced_pipelines_train(path, tmp_path):
    changes = [
        "data.batch_size=8", "data.limit=24", "training.epochs=1", "training.device=cpu", "evaluation.examples=8",
        "evaluation.estimators=[{type: elbo}]", "evaluation.probes=[]",
    ]  # fmt: skip
    short = tmp_path / path.name
    short.write_text(re.sub(r"until_epoch: \d+", "until_epoch: 1", path.read_text()))
    run = Pipeline.from_yaml(short, changes).fit(tmp_path / "run", quiet=True)
    assert run.results["estimates"]["elbo"]["value"] < 0
