"""Makes the toy pipeline importable, here and in the processes that tests start."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)


@pytest.fixture(scope="session")
def forkserver() -> Iterator[ForkServerContext]:
    """Return a context whose processes start in milliseconds: their server has loaded torch once for all."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training_workers"])
    with pytest.MonkeyPatch.context() as patch:
        # The server takes its search path and thread count from the environment, not from this process.
        patch.setenv("PYTHONPATH", HERE, prepend=os.pathsep)
        patch.setenv("OMP_NUM_THREADS", "1")
        yield context
