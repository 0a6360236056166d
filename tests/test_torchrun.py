"""The command line under ``torchrun``: two processes train one model, the first one measures it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

PIPELINE = """
name: two
data: {type: digits, batch_size: 100, limit: 300}
model: {encoder: mlp, posterior: {type: gaussian, latent_dim: 4}, decoder: mlp}
regularizers: [{type: mae.mutual_divergence}]
training: {epochs: 2}
evaluation: {estimators: [elbo]}
"""


def test_two_processes_train_and_one_measures(tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text(PIPELINE)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, "-m", "uncollapse", "train", "two.yaml"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Everything is in runs/two") == 1
    run = tmp_path / "runs" / "two"
    results = json.loads((run / "results.json").read_text())
    assert results["name"] == "two"
    assert results["estimates"]["elbo"]["count"] == 300
    meta = json.loads((run / "checkpoints" / "last" / "meta.json").read_text())
    assert (meta["processes"], meta["step"]) == (2, 6)
