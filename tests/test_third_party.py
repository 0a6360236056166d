"""A stranger's remedy, built as a wheel and installed beside a released core, works there; nobody here knows of it."""

from __future__ import annotations

import json
import subprocess
from importlib.metadata import version
from pathlib import Path

from environments import ROOT, BuildWheel, Environment, Provide

SOURCE = ROOT / "examples" / "third_party"


def test_a_stranger_s_plugin_in_a_fresh_environment(
    environment: Environment, build_wheel: BuildWheel, provide: Provide, tmp_path: Path
) -> None:
    build_wheel(SOURCE)
    # The dependency on the core is resolved from the wheels, as it is from PyPI.
    provide("kit", "images", "measures", "diagnosis", "report")
    said = environment.run("pip", "install", "uncollapse-decorrelate[test]", cwd=tmp_path)
    assert f"uncollapse-{version('uncollapse')} uncollapse-decorrelate-1.0.0" in said

    where = environment.run("python", "-c", "import uncollapse; print(uncollapse.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(environment.folder)
    plugins = " ".join(environment.run("uncollapse", "plugins", cwd=tmp_path).split())
    assert "decorrelate uncollapse-decorrelate 1.0.0 regularizer decorrelate.covariance" in plugins

    report = json.loads(environment.run("uncollapse", "check", "decorrelate", "--json", cwd=tmp_path))
    assert report["passed"]
    (component,) = report["components"]
    assert component["type"] == "decorrelate.covariance"
    outcomes = {check["name"]: check["outcome"] for check in component["checks"]}
    assert outcomes["regularizer_data_parallel"] == "passed"

    # Its own tests, run by a file that lies elsewhere than its sources.
    environment.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", SOURCE / "tests", cwd=tmp_path)

    changes = ["training.epochs=1", "data.limit=300", "evaluation.examples=100"]
    overrides = [word for change in changes for word in ("--set", change)]
    environment.run("uncollapse", "train", SOURCE / "pipeline.yaml", *overrides, "--quiet", cwd=tmp_path)
    rows = (tmp_path / "runs" / "dip-vae" / "metrics.jsonl").read_text()
    assert "decorrelate.covariance/diagonal" in rows
    check_contributions(environment, tmp_path)


def check_contributions(environment: Environment, folder: Path) -> None:
    """A stranger's command, measurement, condition, remedy and section work as ours do."""
    run = "runs/dip-vae"
    assert "correlations" in environment.run("uncollapse", "--help", cwd=folder)
    pairs = [
        line.split() for line in environment.run("uncollapse", "correlations", run, "-n", "3", cwd=folder).splitlines()
    ]
    assert len(pairs) == 3
    values = [abs(float(value)) for _, _, value in pairs]
    assert values == sorted(values, reverse=True)

    quick = ("--decoder-examples", "20", "--refined-examples", "2")
    record = json.loads(environment.run("uncollapse", "diagnose", run, *quick, "--json", cwd=folder))
    assert 0 <= record["measurements"]["largest_correlation"]["value"] <= 1
    said = environment.run("uncollapse", "evaluate", run, cwd=folder)
    # An evaluation cannot look for it, so wherever something is left open, the stranger's condition is.
    assert ("correlated dimensions" in said) == ("not examined" in said)
    found = {f["condition"] for f in record["findings"]}
    value, error = (record["measurements"]["largest_correlation"][k] for k in ("value", "standard_error"))
    code = environment.status("uncollapse", "diagnose", run, *quick, "--fail-on", "correlated-dimensions", cwd=folder)
    assert ("correlated dimensions" in found) == (code == 40)
    if not found & {"collapsed", "not enough data"}:
        assert ("correlated dimensions" in found) == (value - 2 * error > 0.5**0.5)

    environment.run("uncollapse", "report", run, cwd=folder)
    page = (folder / run / "report.html").read_text(encoding="utf-8")
    assert '<section id="correlations">' in page
    assert "Correlations of posterior means over" in page
    assert "#correlations table" in page


def test_nobody_here_knows_of_it() -> None:
    found = subprocess.run(
        ["grep", "-rlE", "decorrelate[._-]|examples/third", "Makefile", "core", "plugins", "pyproject.toml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.stdout, found.returncode) == ("", 1)
