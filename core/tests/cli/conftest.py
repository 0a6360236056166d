"""A small pipeline, a run trained from it once, and a way to run commands."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from uncollapse.cli import main
from uncollapse.plugins import registry

PIPELINE = """\
name: tiny
data: {type: digits, binarize: threshold, batch_size: 50, limit: 100}
model:
  encoder: {type: mlp, hidden: [8]}
  posterior: {type: gaussian, latent_dim: 2}
  decoder: {type: mlp, hidden: [8]}
training: {epochs: 2, device: cpu}
evaluation: {estimators: [elbo], batch_size: 300}
"""


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ``p.yaml`` and the finished run ``runs/tiny``."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "p.yaml").write_text(PIPELINE)
    assert main(["train", str(folder / "p.yaml"), "--runs", str(folder / "runs"), "--quiet"]) == 0
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder: empty but for ``p.yaml``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text(PIPELINE)
    return tmp_path


@pytest.fixture
def finished(folder: Path, trained: Path) -> Path:
    """Return the current folder, with a finished run ``runs/tiny``."""
    shutil.copytree(trained / "runs", folder / "runs", symlinks=True)
    return folder


@pytest.fixture
def fresh_registry() -> Iterator[Callable[[], None]]:
    """Forget the installed plugins, before and after a test that changes them."""
    registry.cache_clear()
    yield registry.cache_clear
    registry.cache_clear()
