"""Two processes compute what one does: the pairs are those of the global batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

SCRIPT = Path(__file__).with_name("two_processes.py")


def test_two_processes_give_the_loss_and_gradients_of_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    one, two = (torch.load(tmp_path / f"{world}.pt", weights_only=True) for world in (1, 2))
    torch.testing.assert_close(two["loss"], one["loss"], rtol=1e-5, atol=0)
    assert set(one["terms"]) == {"diverse", "smooth", "mutual_posterior_divergence"}
    for name, term in one["terms"].items():
        torch.testing.assert_close(two["terms"][name], term, rtol=1e-5, atol=0)
    assert len(one["grads"]) == 8
    for name, grad in one["grads"].items():
        assert (two["grads"][name] - grad).norm() <= 1e-5 * grad.norm(), name
        assert grad.norm() > 0, name
