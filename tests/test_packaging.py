"""Each distribution builds as a wheel and works without the rest of the repository."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import pytest
from environments import ROOT, BuildWheel, Environment, Provide, needed, run

DISTRIBUTIONS = {"uncollapse": ROOT / "core", **{f"uncollapse-{p.name}": p for p in (ROOT / "plugins").iterdir() if p.is_dir()}}  # fmt: skip


TEMPLATES = ROOT / "plugins" / "kit" / "src" / "uncollapse_kit" / "scaffold" / "templates"


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


DATA = {
    "uncollapse": ("data/digits.npz", "plugins/unprefixed.json"),
    "uncollapse-diagnosis": ("known_remedies.yaml",),
    "uncollapse-report": ("demo/vae.yaml", "templates/page.html.j2"),
    "uncollapse-kit": tuple(
        f"scaffold/templates/{p.relative_to(TEMPLATES).as_posix()}" for p in sorted(TEMPLATES.glob("*/*"))
    ),
}


@pytest.mark.parametrize("name", DATA)
def test_wheels_carry_their_data(wheels: dict[str, Path], name: str) -> None:
    names = zipfile.ZipFile(wheels[name]).namelist()
    assert DATA[name]
    assert {f"{name.replace('-', '_')}/{path}" for path in DATA[name]} <= set(names)


TOOLS = ("report", "kit")
"""Distributions that bring commands and no component."""


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
        assert (int(count) > 0) == (name not in TOOLS), name


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
PLUGINS = [n.removeprefix("uncollapse-") for n in DISTRIBUTIONS if n != "uncollapse"]

IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    # The kit's fixture needs pytest, which only those who test have.
    if not module.name.endswith("pytest_plugin"):
        importlib.import_module(module.name)
from uncollapse.plugins import registry
print([p.name for p in registry().plugins], [p.error for p in registry().plugins if p.error])
"""


def test_the_core_alone_trains_on_digits(environment: Environment, tmp_path: Path) -> None:
    environment.run("pip", "install", "uncollapse", cwd=tmp_path)
    (tmp_path / "p.yaml").write_text(
        "name: alone\ndata: {type: digits, binarize: dynamic}\nmodel: {encoder: mlp, decoder: mlp, posterior: "
        "{type: gaussian, latent_dim: 4}}\ntraining: {epochs: 1}\nevaluation: {estimators: [elbo, mutual_information]}"
    )
    said = environment.run("uncollapse", "train", "p.yaml", cwd=tmp_path)
    assert "Everything is in runs/alone" in said
    assert "mutual_information" in environment.run("uncollapse", "evaluate", "runs/alone", cwd=tmp_path)
    assert "samples.npz" in environment.run("uncollapse", "sample", "runs/alone", cwd=tmp_path)
    assert environment.run("uncollapse", "plugins", cwd=tmp_path).startswith("core  uncollapse ")


@pytest.mark.parametrize("name", PLUGINS)
def test_a_distribution_is_whole_beside_what_it_declares(
    name: str, environment: Environment, provide: Provide, tmp_path: Path
) -> None:
    provide(name)
    environment.run("pip", "install", f"uncollapse-{name}", cwd=tmp_path)
    said = environment.run("python", "-c", IMPORT_ALL, f"uncollapse_{name}", cwd=tmp_path)
    assert said.splitlines()[-1] == f"{['core', *sorted(needed(name))]} []"


@pytest.mark.parametrize("name", SMALLEST)
def test_a_remedy_trains_its_smallest_example(
    name: str,
    environment: Environment,
    provide: Provide,
    shared_data: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    provide(name, "images", "measures")
    environment.run("pip", "install", f"uncollapse-{name}", "uncollapse-images", "uncollapse-measures", cwd=tmp_path)
    example = ROOT / "examples" / SMALLEST[name]
    changes = [*SHORT, "evaluation.probes=[]", "evaluation.examples=64", "training.device=cpu"]
    if "type: omniglot" in example.read_text():
        changes += [f"data.root={request.getfixturevalue('full_data') / 'omniglot'}", "data.test=64"]
    if "type: mnist" in example.read_text():
        changes += [f"data.root={shared_data}", "data.download=false", "data.validation=32"]
    overrides = [word for change in changes for word in ("--set", change)]
    environment.run("uncollapse", "train", example, *overrides, "--name", "run", "--quiet", cwd=tmp_path)
    assert (tmp_path / "runs" / "run" / "results.json").exists()
    listed = json.loads((tmp_path / "runs" / "run" / "environment.json").read_text())
    installed = needed(name, "images", "measures")
    assert [p["name"] for p in listed["plugins"]] == ["core", *sorted(installed)]
