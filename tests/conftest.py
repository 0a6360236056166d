"""What tests of whole distributions share."""

from __future__ import annotations

import sys
from functools import cache, partial
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import environments
from environments import ROOT, BuildWheel, Environment, Provide


@pytest.fixture(scope="session", name="build_wheel")
def build_wheel_once(tmp_path_factory: pytest.TempPathFactory) -> BuildWheel:
    """Return what builds a distribution's wheel the first time it is asked; all wheels lie in one folder."""
    return cache(partial(environments.build_wheel, folder=tmp_path_factory.mktemp("wheels")))


@pytest.fixture
def provide(build_wheel: BuildWheel) -> Provide:
    """Return what builds the wheels of distributions and of what they need, for the pip of an environment."""

    def build(*names: str) -> None:
        for name in sorted(environments.needed(*names)):
            build_wheel(ROOT / "plugins" / name)

    return build


@pytest.fixture
def environment(tmp_path: Path, build_wheel: BuildWheel) -> Environment:
    """Return a fresh environment in which nothing is installed; its pip finds the core's wheel."""
    return environments.new_environment(tmp_path / "environment", build_wheel(ROOT / "core").parent)
