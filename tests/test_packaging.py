"""Each distribution builds as a wheel and works without the rest of the repository."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DISTRIBUTIONS = {"uncollapse": ROOT / "core", **{f"uncollapse-{p.name}": p for p in (ROOT / "plugins").iterdir() if p.is_dir()}}  # fmt: skip


def run(*command: str | Path, **kwargs) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **kwargs)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("wheels")
    built = {}
    for name, source in DISTRIBUTIONS.items():
        # From a copy: setuptools leaves build folders beside what it builds.
        copy = folder / "source" / name
        run("cp", "-r", source, folder / name)
        (folder / "source").mkdir(exist_ok=True)
        (folder / name).rename(copy)
        run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, copy)
        built[name] = next(folder.glob(f"{name.replace('-', '_')}-*.whl"))
    return built


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
