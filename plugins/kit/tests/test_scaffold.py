"""New plugins of every kind: they conform, pass their tests, are clean, and train."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from uncollapse import Pipeline
from uncollapse.config import KINDS
from uncollapse.errors import PluginError
from uncollapse.plugins import API_VERSION, registry
from uncollapse_kit import check_component
from uncollapse_kit.scaffold import Kind, kinds, names_for, new_plugin, render

ROOT = Path(__file__).resolve().parents[3]


def run(*command: Any, **kwargs: Any) -> None:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, **kwargs)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generate a plugin of every kind with a short name, ``x-data`` say; return their folder."""
    folder = tmp_path_factory.mktemp("plugins")
    for kind in Kind:
        new_plugin(f"x-{kind.replace('_', '-')}", kind, folder)
    return folder


@pytest.fixture(scope="module")
def path(plugins: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the search path on which all are installed: their sources, and metadata as pip leaves it."""
    site = tmp_path_factory.mktemp("site")
    for folder in plugins.iterdir():
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        info = site / f"{project['name'].replace('-', '_')}-0.1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1.0\n")
        ((name, module),) = project["entry-points"]["uncollapse"].items()
        (info / "entry_points.txt").write_text(f"[uncollapse]\n{name} = {module}\n")
    return [str(site), *(str(folder / "src") for folder in plugins.iterdir())]


@pytest.fixture(scope="module")
def _installed(path: list[str]) -> Iterator[None]:
    before = list(sys.path)
    sys.path[:0] = path
    registry.cache_clear()
    yield
    sys.path[:] = before
    registry.cache_clear()
    for name in [n for n in sys.modules if n.startswith("uncollapse_x_")]:
        del sys.modules[name]


def test_the_kinds_are_those_of_the_core() -> None:
    assert list(Kind) == list(KINDS)
    assert set(kinds.SUMMARIES) == set(kinds.PLACES) == set(Kind)


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize("kind", Kind)
def test_a_new_plugin_conforms_and_trains(kind: Kind, plugins: Path, tmp_path: Path) -> None:
    plugin = next(p for p in registry().plugins if p.name == f"x_{kind}")
    assert (plugin.error, plugin.components) == (None, [(kind, f"x_{kind}.{kind}")])
    config = registry().get(f"x_{kind}.{kind}")
    report = check_component(config)
    assert report.passed, str(report)
    bare = [n for n, field in config.model_fields.items() if n not in ("type", "batch_size") and not field.description]
    assert bare == []
    small = ["training.epochs=3", "evaluation.examples=60"]
    pipeline = Pipeline.from_yaml(plugins / f"uncollapse-x-{kind.replace('_', '-')}" / "pipeline.yaml", small)
    run = pipeline.fit(tmp_path / "run", quiet=True)
    assert run.results is not None
    # A sampler is no part of a pipeline; everything else is there.
    assert (f"x_{kind}.{kind}" in (tmp_path / "run" / "pipeline.yaml").read_text()) == (kind is not Kind.sampler)


def test_the_generated_tests_pass(plugins: Path, path: list[str]) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"}
    options = ["-q", "-W", "error", "-p", "no:cacheprovider", "--import-mode=importlib", f"--rootdir={plugins}"]
    run(sys.executable, "-m", "pytest", *options, plugins, env=environment)


# Long names make long lines; short ones let a formatter join lines.
@pytest.mark.parametrize("name", ["q", "a-plugin-whose-name-is-so-long"])
def test_generated_code_is_clean(name: str, tmp_path: Path) -> None:
    ruff = shutil.which("ruff", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if ruff is None:
        pytest.skip("ruff is not installed")
    for kind in Kind:
        (tmp_path / kind).mkdir()
        new_plugin(name, kind, tmp_path / kind)
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    rules = ",".join(rule for rule in ours["select"] if rule != "D1")
    run(ruff, "check", "--no-cache", "--select", rules, "--ignore", ",".join(ours["ignore"]), tmp_path)
    # Tests need no docstrings.
    for source in tmp_path.glob("*/*/src"):
        run(ruff, "check", "--no-cache", "--select", "D1", "--ignore", "D105,D107", source)
    run(ruff, "format", "--no-cache", "--check", tmp_path)


def test_generated_code_is_typed(plugins: Path) -> None:
    api = pytest.importorskip("mypy.api", reason="mypy is not installed")
    packages = [str(package) for package in plugins.glob("*/src/*")]
    cache = ROOT / ".mypy_cache"
    said, errors, code = api.run(
        ["--strict", f"--config-file={ROOT / 'pyproject.toml'}", f"--cache-dir={cache}", *packages]
    )
    assert code == 0, said + errors


@pytest.mark.parametrize("kind", Kind)
def test_the_generated_project_is_complete(kind: Kind) -> None:
    names = names_for("my-norm", kind)
    files = render(names, kind)
    assert files["LICENSE"] == (ROOT / "LICENSE").read_text()
    assert "src/uncollapse_my_norm/py.typed" in files
    project = tomllib.loads(files["pyproject.toml"])["project"]
    assert project["name"] == "uncollapse-my-norm"
    assert project["entry-points"]["uncollapse"] == {"my_norm": "uncollapse_my_norm.plugin"}
    assert f"uncollapse_api_version = {API_VERSION}\n" in files["src/uncollapse_my_norm/plugin.py"]
    assert f"my_norm.{kind}" in files["README.md"]
    # Every placeholder has been filled in.
    assert [path for path, text in files.items() if "$" in text and path != "LICENSE"] == []


def test_the_component_may_have_a_name_of_its_own(tmp_path: Path) -> None:
    target = new_plugin("mine", "prior", tmp_path, component="heavy_tails")
    module = target / "src" / "uncollapse_mine" / "heavy_tails.py"
    assert "class HeavyTailsConfig(PriorConfig):" in module.read_text()
    assert 'type: Literal["mine.heavy_tails"] = "mine.heavy_tails"' in module.read_text()
    assert (target / "tests" / "test_heavy_tails.py").exists()


# -------------------------------------------------------------------------------------------------------------- refusal


@pytest.mark.parametrize(
    ("name", "component", "reason"),
    [
        ("uncollapse-mine", None, "the prefix 'uncollapse-' by itself; use 'mine'"),
        ("My-Norm", None, "expected words of lower-case letters"),
        ("1norm", None, "expected words of lower-case letters"),
        ("my--norm", None, "expected words of lower-case letters"),
        ("../norm", None, "expected words of lower-case letters"),
        ("", None, "expected words of lower-case letters"),
        ("lambda", None, "no word of Python's own"),
        ("core", None, "uncollapse's own parts have this name"),
        ("n" * 31, None, "has 31 characters; use at most 30"),
        ("mine", "Penalty", "--component 'Penalty': expected words"),
        ("mine", "a-b", "--component 'a-b': expected words"),
        ("mine", "plugin", "plugin.py and tests/test_conformance.py are there already"),
        ("mine", "conformance", "plugin.py and tests/test_conformance.py are there already"),
    ],
)
def test_names_that_cannot_be_used(name: str, component: str | None, reason: str, tmp_path: Path) -> None:
    with pytest.raises(PluginError) as caught:
        new_plugin(name, Kind.prior, tmp_path, component)
    assert reason in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_an_installed_plugin_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "someones_norm-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: someones-norm\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[uncollapse]\nmy_norm = not_imported\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError, match=r"'my_norm': someones-norm 2\.0 already provides a plugin of this name"):
        new_plugin("my-norm", Kind.prior, tmp_path)


def test_a_package_of_the_name_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "uncollapse_taken").mkdir()
    (tmp_path / "uncollapse_taken" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError, match="a package 'uncollapse_taken' is installed already"):
        new_plugin("taken", Kind.prior, tmp_path)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    target = new_plugin("mine", Kind.prior, tmp_path)
    (target / "README.md").write_text("my own words")
    with pytest.raises(PluginError, match="there is something of this name already, which is left as it is"):
        new_plugin("mine", Kind.decoder, tmp_path)
    assert (target / "README.md").read_text() == "my own words"
    assert not list(target.glob("src/*/decoder.py"))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="there is no such folder"):
        new_plugin("mine", Kind.prior, tmp_path / "nowhere")


def test_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up half way leaves nothing behind, not even a hidden folder."""
    written: list[Path] = []
    write = Path.write_text

    def full(self: Path, *args: Any, **kwargs: Any) -> int:
        if len(written) == 4:
            raise OSError(28, "No space left on device")
        written.append(self)
        return write(self, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        new_plugin("mine", Kind.prior, tmp_path)
    assert written
    assert list(tmp_path.iterdir()) == []
