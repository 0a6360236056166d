"""``uncollapse diagnose``: terminal, JSON, exit codes, the pipeline that it writes, and the page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from uncollapse import Pipeline
from uncollapse.cli import main
from uncollapse.plugins import registry

PIPELINE: dict[str, Any] = {
    "name": "tiny",
    "data": {"type": "digits", "binarize": "threshold", "batch_size": 50, "limit": 400},
    "model": {
        "encoder": {"type": "mlp", "hidden": [8]},
        "posterior": {"type": "gaussian", "latent_dim": 2},
        "decoder": {"type": "mlp", "hidden": [8]},
    },
    "objective": {"type": "elbo", "rate_weight": 100.0},
    "training": {"epochs": 2, "device": "cpu", "log_every": 4},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that has collapsed: its rate is charged a hundredfold."""
    return Pipeline.from_dict(PIPELINE).fit(tmp_path_factory.mktemp("runs") / "tiny", quiet=True).path


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(trained, tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return Path("tiny")


FAST = ["--decoder-examples", "30", "--refined-examples", "5"]


def test_says_what_it_found_and_prescribes(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", str(run), *FAST]) == 0
    out = capsys.readouterr().out
    assert out.startswith("collapsed: z carries ")
    assert "training: the rate" in out
    assert "under rate_weight 100" in out
    assert "Remedies for 'collapsed', the best first" in out
    assert "costs: " in out
    assert f"uncollapse diagnose {run} --apply --remedy " in out
    assert all(len(line) <= 80 for line in out.splitlines() if line.startswith(("rate", "loss", "mutual", "active")))
    record = json.loads((run / "diagnosis.json").read_text())
    assert record["verdict"] == "collapsed"
    assert record["prescriptions"][0]["fragment"]


def test_json_is_all_that_stdout_gets(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", str(run), *FAST, "--json", "--split", "train", "--examples", "120"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["split"], record["examples"], record["verdict"]) == ("train", 120, "collapsed")
    assert record["measurements"]["rate"]["standard_error"] > 0
    assert record["history"]["weights"] == {"rate_weight": 100.0}
    assert record == json.loads((run / "diagnosis.json").read_text())


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--fail-on", "collapsed"], 11),
        (["--fail-on", "any"], 11),
        (["--fail-on", "inference-lagging", "--fail-on", "over-informative"], 0),
        (["--fail-on", "not-enough-data", "--examples", "20"], 15),
        (["--fail-on", "collapsed", "--examples", "20"], 0),
        (["--fail-on", "nonsense"], 2),
        (["--remedy", "free_bits"], 2),
    ],
)
def test_exit_codes(run: Path, options: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", str(run), *FAST, *options]) == code


def test_every_finding_has_its_own_code() -> None:
    conditions, broken = registry().conditions()
    assert broken == {}
    assert {c.name: c.exit_code for c in conditions} == {
        "partly collapsed": 10,
        "collapsed": 11,
        "decoder ignores z": 12,
        "over-informative": 13,
        "inference lagging": 14,
    }


def test_a_condition_that_is_not_known_is_refused_before_anything_is_measured(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diagnose", str(run), "--fail-on", "colapsed"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "--fail-on colapsed: no such condition, did you mean 'collapsed'" in said
    assert "allowed: any, collapsed, decoder-ignores-z, inference-lagging, not-enough-data" in said
    assert not (run / "diagnosis.json").exists()


def test_applying_writes_a_pipeline_that_trains(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["diagnose", str(run), *FAST, "--apply", "--remedy", "free_bits", "--pipeline", "healed.yaml"]
    assert main(asked) == 0
    assert "train it with: uncollapse train healed.yaml" in capsys.readouterr().out
    assert main(asked) == 2
    assert "exists already, and nothing is overwritten" in capsys.readouterr().err
    assert main(["train", "healed.yaml", "--quiet", "--set", "objective.rate_weight=1"]) == 0
    assert Path("runs/tiny-free_bits/checkpoints").is_dir()


def test_without_a_name_the_best_installed_remedy_is_applied(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", str(run), *FAST, "--apply"]) == 0
    first = next(p for p in json.loads((run / "diagnosis.json").read_text())["prescriptions"] if p["installed"])
    assert Path(f"tiny-{first['name']}.yaml").is_file()


def test_the_page_has_a_section(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("plotly")
    assert main(["report", str(run), "-o", "before.html"]) == 0
    assert 'id="diagnosis"' not in Path("before.html").read_text()
    main(["diagnose", str(run), *FAST])
    assert main(["report", str(run), "-o", "after.html"]) == 0
    page = Path("after.html").read_text()
    assert 'href="#diagnosis"' in page
    section = page[page.index('<section id="diagnosis">') : page.index('<section id="numbers">')]
    assert '<p class="badge">collapsed</p>' in section
    assert "free_bits" in section
    (run / "diagnosis.json").write_text("{")
    assert main(["report", str(run), "-o", "after.html"]) == 2
    assert "run uncollapse diagnose again" in capsys.readouterr().err


def test_help_answers_without_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", "--help"]) == 0
    assert "--fail-on" in capsys.readouterr().out
