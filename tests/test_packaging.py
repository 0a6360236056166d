"""Each distribution builds as a wheel and works without the rest of the repository."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import pytest
from environments import ROOT, BuildWheel, Environment, run

DISTRIBUTIONS = {"uncollapse": ROOT / "core", **{f"uncollapse-{p.name}": p for p in (ROOT / "plugins").iterdir() if p.is_dir()}}  # fmt: skip


@pytest.fixture(scope="module")
def wheels(build_wheel: BuildWheel) -> dict[str, Path]:
    return {name: build_wheel(source) for name, source in DISTRIBUTIONS.items()}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_wheel_is_complete(wheels: dict[str, Path], name: str) -> None:
    names = zipfile.ZipFile(wheels[name]).namelist()
    package = name.replace("-", "_")
    assert f"{package}/py.typed" in names
    assert any(n.endswith("licenses/LICENSE") for n in names)
    assert not [n for n in names if "/tests/" in n or n.startswith("tests/")]
    source = DISTRIBUTIONS[name] / "src" / package
    modules = {f"{package}/{p.relative_to(source).as_posix()}" for p in source.rglob("*.py")}
    assert modules <= set(names), sorted(modules - set(names))


def test_core_wheel_carries_its_data(wheels: dict[str, Path]) -> None:
    names = zipfile.ZipFile(wheels["uncollapse"]).namelist()
    assert "uncollapse/demo/vae.yaml" in names
    assert any(n.startswith("uncollapse/report/templates/") for n in names)
    templates = ROOT / "core" / "src" / "uncollapse" / "scaffold" / "templates"
    assert {
        f"uncollapse/scaffold/templates/{p.relative_to(templates).as_posix()}" for p in templates.glob("*/*")
    } <= set(names)


def test_wheels_work_alone(wheels: dict[str, Path], tmp_path: Path) -> None:
    """Install the wheels beside the environment's libraries and list the plugins from a folder far from the sources."""
    target = tmp_path / "site"
    run(
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-compile",
        "--target",
        target,
        *wheels.values(),
    )
    script = (
        "import uncollapse, pathlib; from uncollapse.plugins import registry\n"
        "assert pathlib.Path(uncollapse.__file__).is_relative_to(pathlib.Path('site').resolve()), uncollapse.__file__\n"
        "for plugin in registry().plugins: print(plugin.name, plugin.error, len(plugin.components))"
    )
    out = run(sys.executable, "-c", script, cwd=tmp_path, env={"PYTHONPATH": str(target), "PATH": "/usr/bin:/bin"})
    listed = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert set(listed) == {"core", *(n.removeprefix("uncollapse-") for n in DISTRIBUTIONS if n != "uncollapse")}
    for name, (error, count) in listed.items():
        assert error == "None", name
        assert int(count) > 0, name


SMALLEST = {
    "mae": "mae/mnist-small.yaml",
    "infovae": "infovae/mnist-mmd-small.yaml",
    "muvae": "muvae/mnist-small-muvae-1.yaml",
    "mim": "mim/mnist-amim-small.yaml",
    "duvae": "duvae/omniglot-small/du-vae-5-8.yaml",
    "baselines": "baselines/bn-vae-small.yaml",
}
# Five epochs: warm-ups have to fit.
SHORT = ("training.epochs=5", "data.limit=128", "data.batch_size=32", "evaluation.estimators=[{type: elbo}]")


@pytest.mark.parametrize("name", [n.removeprefix("uncollapse-") for n in DISTRIBUTIONS if n != "uncollapse"])
def test_a_plugin_alone_beside_the_core_trains_its_smallest_example(
    name: str, environment: Environment, build_wheel: BuildWheel, shared_data: Path, tmp_path: Path
) -> None:
    build_wheel(ROOT / "plugins" / name)
    environment.run("pip", "install", f"uncollapse-{name}", cwd=tmp_path)
    example = ROOT / "examples" / SMALLEST[name]
    changes = [*SHORT, "evaluation.probes=[]", "evaluation.examples=64", "training.device=cpu"]
    if "type: omniglot" in example.read_text():
        changes += [f"data.root={shared_data / 'omniglot'}", "data.test=64"]
    if "type: mnist" in example.read_text():
        changes += [f"data.root={shared_data}", "data.download=false", "data.validation=32"]
    overrides = [word for change in changes for word in ("--set", change)]
    environment.run("uncollapse", "train", example, *overrides, "--name", "run", "--quiet", cwd=tmp_path)
    assert (tmp_path / "runs" / "run" / "results.json").exists()
    listed = json.loads((tmp_path / "runs" / "run" / "environment.json").read_text())
    assert [p["distribution"] for p in listed["plugins"]] == ["uncollapse", f"uncollapse-{name}"]
