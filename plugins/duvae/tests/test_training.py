"""In training: processes that share a batch, and runs that are interrupted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from uncollapse import Pipeline

SCRIPT = Path(__file__).with_name("two_processes.py")


def test_two_processes_normalize_the_global_batch(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    one, two = (torch.load(tmp_path / f"{world}.pt", weights_only=True) for world in (1, 2))
    assert one.keys() == two.keys() > {"loss", "norm.weight", "running_mean", "running_var", "head.weight"}
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-6, atol=1e-9)


def pipeline(**training: Any) -> Pipeline:
    moments = [
        {"type": "duvae.batch_norm", "gamma": 0.5},
        {"type": "duvae.variance_dropout", "keep": 0.8, "from_epoch": 1.0},
    ]
    return Pipeline.from_dict(
        {
            "name": "tiny",
            "data": {"type": "digits", "batch_size": 40, "binarize": "dynamic", "limit": 160, "validation": 40},
            "model": {
                "encoder": {"type": "mlp", "hidden": [8]},
                "posterior": {"type": "gaussian", "latent_dim": 3, "moments": moments},
                "decoder": {"type": "mlp", "hidden": [8]},
            },
            "training": {"epochs": 5, "device": "cpu", **training},
            "evaluation": {"examples": 20},
        }
    )


def weights(directory: Path) -> dict[str, Tensor]:
    return pipeline().fit(directory, resume=True, quiet=True).checkpoints.open("last").weights()


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    """Scales, shifts and running statistics too, although what is saved is rescaled and what is trained is not yet."""
    pipeline().fit(tmp_path / "whole", quiet=True)
    # The same run ended by patience after two epochs, and gone on with.
    pipeline(early_stopping={"patience": 1, "min_delta": 1000.0}).fit(tmp_path / "parts", quiet=True)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    norm = "posterior.moments.0."
    assert {f"{norm}{name}" for name in ("weight", "bias", "running_mean", "running_var")} <= whole.keys()
    for name, value in whole.items():
        assert torch.equal(parts[name], value), name
    assert bool(whole[f"{norm}running_mean"].any())
    assert whole[f"{norm}weight"].square().mean().sqrt().item() == pytest.approx(0.5, rel=1e-6)
