"""Fixtures for every distribution's tests: reference numbers and real data that lie beside the project."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

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
        path = SHARED / "oracles" / f"{name}.json"
        if not path.exists():
            pytest.skip(f"reference numbers are not here: {path} (they lie beside the project, not in it)")
        raw = json.loads(path.read_text())
        return {**raw, "inputs": _decode(raw["inputs"]), "expected": _decode(raw["expected"])}

    return load


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real data sets, or skip."""
    path = SHARED / "data"
    if not path.exists():
        pytest.skip(f"real data are not here: {path} (they lie beside the project, not in it)")
    return path


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Start every test from the same random state."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - scikit-learn falls back on the legacy state
