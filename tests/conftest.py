"""What tests of whole distributions share."""

from __future__ import annotations

import sys
from functools import cache, partial
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import environments
from environments import ROOT, BuildWheel, Environment


@pytest.fixture(scope="session", name="build_wheel")
def build_wheel_once(tmp_path_factory: pytest.TempPathFactory) -> BuildWheel:
    """Return what builds a distribution's wheel the first time it is asked; all wheels lie in one folder."""
    return cache(partial(environments.build_wheel, folder=tmp_path_factory.mktemp("wheels")))


@pytest.fixture
def environment(tmp_path: Path, build_wheel: BuildWheel) -> Environment:
    """Return a fresh environment in which nothing is installed; its pip finds the core's wheel."""
    return environments.new_environment(tmp_path / "environment", build_wheel(ROOT / "core").parent)
