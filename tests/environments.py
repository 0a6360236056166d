"""Environments in which nothing of the checkout is installed, and wheels to install there."""

from __future__ import annotations

import os
import re
import shutil
import site
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

__all__ = ["ROOT", "BuildWheel", "Environment", "Provide", "build_wheel", "needed", "new_environment", "run"]

ROOT = Path(__file__).resolve().parent.parent

BuildWheel = Callable[[Path], Path]
"""From a distribution's folder to its wheel."""

Provide = Callable[..., None]
"""Builds the wheels of distributions of this repository, given by their folders' names, and of all that they need."""


def needed(*names: str) -> set[str]:
    """Return the folders under ``plugins`` of distributions and of all that they need, with their extras.

    Args:
        names: Folders, ``mae`` say, or with an extra ``mae[test]``.
    """
    found: set[tuple[str, str]] = set()
    waiting = list(names)
    while waiting:
        name, _, extra = waiting.pop().removesuffix("]").partition("[")
        if (name, extra) in found or name == "uncollapse":
            continue
        found.add((name, extra))
        project = tomllib.loads((ROOT / "plugins" / name / "pyproject.toml").read_text())["project"]
        wanted = [*project.get("dependencies", ()), *project.get("optional-dependencies", {}).get(extra, ())]
        for requirement in wanted:
            match = re.match(r"uncollapse-(\w+)(\[\w+\])?", requirement)
            if match:
                waiting.append(match[1] + (match[2] or ""))
    return {name for name, _ in found}


def run(*command: str | Path, **kwargs) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **kwargs)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build_wheel(source: Path, folder: Path) -> Path:
    """Build the wheel of the distribution in ``source`` and return it; it lies in ``folder``, where pip finds it."""
    # From a copy: setuptools leaves build folders beside what it builds.
    copy = folder / "source" / source.name
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("*.egg-info", "build", "__pycache__"))
    before = set(folder.glob("*.whl"))
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, copy)
    (built,) = set(folder.glob("*.whl")) - before
    return built


@dataclass(frozen=True)
class Environment:
    """A virtual environment, and what it takes to run something in it."""

    folder: Path
    wheels: Path

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables: pip takes everything from the folder of wheels, and nothing of the user's is seen."""
        return {
            "PATH": f"{self.folder / 'bin'}:/usr/bin:/bin",
            "HOME": str(self.folder),
            "VIRTUAL_ENV": str(self.folder),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_CACHE_DIR": "1",
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
            "COLUMNS": "100",
            "LANG": "C.UTF-8",
        }

    def run(self, *command: str | Path, **kwargs) -> str:
        """Run a program of the environment, which must succeed, and return what it printed."""
        return run(self.folder / "bin" / str(command[0]), *command[1:], env=self.variables, **kwargs)

    def status(self, *command: str | Path, **kwargs) -> int:
        """Run a program of the environment and return its exit code."""
        program = str(self.folder / "bin" / str(command[0]))
        words = [program, *map(str, command[1:])]
        return subprocess.run(words, env=self.variables, capture_output=True, check=False, **kwargs).returncode


def new_environment(folder: Path, wheels: Path) -> Environment:
    """Return a fresh environment. It has the libraries that run these tests, pip included, and nothing of the checkout.

    Copying torch would take a minute, so the libraries are links.

    Args:
        folder: Where it is made.
        wheels: What its pip can install.
    """
    _pack_setuptools(wheels)
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    libraries = folder / "libraries"
    libraries.mkdir()
    for source in map(Path, site.getsitepackages()):
        for entry in source.iterdir():
            # Editable installs hang on .pth files.
            ours = entry.name.startswith(("uncollapse", "__editable__")) or entry.suffix == ".pth"
            if not ours and not (libraries / entry.name).exists():
                (libraries / entry.name).symlink_to(entry)
    own = next((folder / "venv" / "lib").glob("python*/site-packages"))
    (own / "libraries.pth").write_text(f"{libraries}\n")
    pip = folder / "venv" / "bin" / "pip"
    pip.write_text('#!/bin/sh\nexec python -m pip "$@"\n')
    pip.chmod(0o755)
    return Environment(folder / "venv", wheels)


def _pack_setuptools(wheels: Path) -> None:
    """Pack the installed setuptools as a wheel, for pip's isolated builds."""
    installed = distribution("setuptools")
    with zipfile.ZipFile(wheels / f"setuptools-{installed.version}-py3-none-any.whl", "w") as wheel:
        for file in installed.files or ():
            if ".." not in file.parts and file.suffix != ".pyc" and installed.locate_file(file).exists():
                wheel.write(installed.locate_file(file), str(file))
