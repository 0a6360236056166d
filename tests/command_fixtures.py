"""Small pipelines on digits and on texts, a run trained from each once, and a way to run commands."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest
from uncollapse.cli import main
from uncollapse.plugins import registry

PARTS = ("diagnosis", "images", "kit", "latents", "measures", "report", "text")
"""Plugins of this project that bring parts and tools, and no paper's remedy."""


def points_of(*names: str) -> list[EntryPoint]:
    """Return the installed entry points of these plugins, as a registry may be given them."""
    return [point for point in entry_points(group="uncollapse") if point.name in names]


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


TEXTS = """\
name: tiny
data:
  type: text_lines
  train: [train.0, train.1]
  validation: [dev.0, dev.1]
  test: [test.0, test.1]
  labels: files
  label_names: [bad, good]
  batch_size: 16
model:
  encoder: {type: lstm, embedding: 8, hidden: 16}
  posterior: {type: gaussian, latent_dim: 3}
  decoder: {type: lstm, embedding: 8, hidden: 16}
training: {epochs: 2, device: cpu, drop_last: false, log_every: 3, optimizer: {type: adam, lr: 1.0e-2}}
evaluation: {estimators: [elbo], batch_size: 30}
"""

_WORDS = {
    "0": (("soup", "waiter", "place"), ("bad", "cold", "awful")),
    "1": (("cake", "garden", "view"), ("great", "lovely", "nice")),
}


def _write_texts(folder: Path) -> None:
    """Write ``p.yaml`` and ``train.0 … test.1``: sentences whose nouns and adjectives belong to their class."""
    draw = random.Random(0)
    for part, size in (("train", 60), ("dev", 15), ("test", 15)):
        for label, (nouns, adjectives) in _WORDS.items():
            lines = []
            for _ in range(size):
                words = [draw.choice(("the", "a")), draw.choice(nouns), "was", draw.choice(adjectives)]
                words[3:3] = ["very"] * (draw.random() < 0.5)
                words += ["and", draw.choice(adjectives)] * (draw.random() < 0.4)
                lines.append(" ".join([*words, "."]))
            (folder / f"{part}.{label}").write_text("\n".join(lines) + "\n")
    (folder / "p.yaml").write_text(TEXTS)


@pytest.fixture(scope="session")
def trained_on_texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a corpus, ``p.yaml`` and the finished run ``runs/tiny``."""
    pytest.importorskip("tokenizers", reason="needs the extra 'text'")
    folder = tmp_path_factory.mktemp("texts")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        _write_texts(folder)
        assert main(["train", "p.yaml", "--quiet"]) == 0
    return folder


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder: a corpus and ``p.yaml``."""
    pytest.importorskip("tokenizers", reason="needs the extra 'text'")
    monkeypatch.chdir(tmp_path)
    _write_texts(tmp_path)
    return tmp_path


@pytest.fixture
def finished_texts(texts: Path, trained_on_texts: Path) -> Path:
    """Return the current folder, with a corpus and a finished run ``runs/tiny``."""
    shutil.copytree(trained_on_texts / "runs", texts / "runs", symlinks=True)
    return texts


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
