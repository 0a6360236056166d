"""Seeds, and the state of every random generator that a step may draw from."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["random_state", "restore_random_state", "seed_everything", "separate_stream"]


def seed_everything(seed: int, stream: int = 0) -> None:
    """Seed python, numpy and torch (every device) from ``(seed, stream)``; streams are independent."""
    words = np.random.SeedSequence([seed, stream]).generate_state(3, np.uint32)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))  # noqa: NPY002 - the legacy generator is what other libraries draw from
    torch.manual_seed(int(words[2]))


def random_state(device: torch.device) -> dict[str, Any]:
    """Return the state of all generators as tensors and plain numbers."""
    version, words, gauss = random.getstate()
    kind, key, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    state: dict[str, Any] = {
        "python": [version, torch.tensor(words, dtype=torch.int64), gauss],
        "numpy": [str(kind), torch.from_numpy(np.asarray(key).astype(np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def restore_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Restore what :func:`random_state` returned."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    kind, key, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, key.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
    elif device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"])


@contextmanager
def separate_stream(seed: int | None, device: torch.device) -> Iterator[None]:
    """Draw from a fresh torch stream inside (None: from a copy of the one outside); outside, nothing was drawn."""
    kept = random_state(device)
    if seed is not None:
        torch.manual_seed(seed)
    try:
        yield
    finally:
        restore_random_state(kept, device)
