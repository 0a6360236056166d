"""Fixtures for every distribution's tests: reference numbers, and real data."""

from __future__ import annotations

import base64
import json
import lzma
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

TESTS = Path(__file__).resolve().parent / "tests"

sys.path.insert(0, str(TESTS))

pytest_plugins = ["command_fixtures", "known_models"]

SHARED = Path(__file__).resolve().parent.parent / "shared"


def _decode(o: Any) -> Any:
    if isinstance(o, dict):
        if "__ndarray__" in o:
            return np.frombuffer(base64.b64decode(o["__ndarray__"]), dtype=o["dtype"]).reshape(o["shape"]).copy()
        return {k: _decode(v) for k, v in o.items()}
    if isinstance(o, list) and o and not any(isinstance(v, dict | str) for v in o):
        try:
            return np.array(o)
        except ValueError:
            return [_decode(v) for v in o]
    return [_decode(v) for v in o] if isinstance(o, list) else o


@pytest.fixture(scope="session")
def oracle() -> Callable[[str], dict[str, Any]]:
    """Load a file of reference numbers by name: ``source, description, inputs, expected, rtol``, arrays decoded."""

    def load(name: str) -> dict[str, Any]:
        raw = json.loads(lzma.decompress((TESTS / "oracles" / f"{name}.json.xz").read_bytes()))
        return {**raw, "inputs": _decode(raw["inputs"]), "expected": _decode(raw["expected"])}

    return load


@pytest.fixture(scope="session")
def shared_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of real data sets: all of them, or the small samples that lie in the repository."""
    whole = SHARED / "data"
    if whole.exists():
        return whole
    folder = tmp_path_factory.mktemp("data")
    for packed in (TESTS / "data").rglob("*.xz"):
        target = folder / packed.relative_to(TESTS / "data").with_suffix("")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(lzma.decompress(packed.read_bytes()))
    return folder


@pytest.fixture(scope="session")
def full_data(shared_data: Path) -> Path:
    """Return the folder of the whole data sets, or skip."""
    if not (SHARED / "data").exists():
        pytest.skip(f"this needs whole data sets, which are not here: {SHARED / 'data'} (they lie beside the project)")
    return shared_data


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Start every test from the same random state."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - scikit-learn falls back on the legacy state
