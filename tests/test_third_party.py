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
    provide("kit", "images", "measures")
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


def test_nobody_here_knows_of_it() -> None:
    found = subprocess.run(
        ["grep", "-rlE", "decorrelate[._-]|examples/third", "Makefile", "core", "plugins", "pyproject.toml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.stdout, found.returncode) == ("", 1)
