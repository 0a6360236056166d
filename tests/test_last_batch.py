"""No epoch is lost to a last validation batch of one example, whatever a regularizer asks of a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from uncollapse import Pipeline
from uncollapse.plugins import registry

REGULARIZERS = [{"type": name} for name in sorted(registry().names("regularizer"))]


@pytest.mark.parametrize("regularizer", [*REGULARIZERS, {"type": "infovae.mmd", "statistic": "u"}], ids=str)
def test_a_run_with_101_validation_examples_in_batches_of_50(regularizer: dict[str, Any], tmp_path: Path) -> None:
    raw: dict[str, Any] = {
        "name": "tiny",
        "data": {"type": "digits", "binarize": "threshold", "batch_size": 50, "validation": 101, "limit": 100},
        "model": {
            "encoder": {"type": "mlp", "hidden": [8]},
            "posterior": {"type": "gaussian", "latent_dim": 4},
            "decoder": {"type": "mlp", "hidden": [8]},
        },
        "regularizers": [regularizer],
        "training": {"epochs": 2, "device": "cpu"},
        "evaluation": {"estimators": ["elbo"], "batch_size": 50, "examples": 51},
    }
    run = Pipeline.from_dict(raw).fit(tmp_path / "run", quiet=True)
    rows = [row for row in run.metrics() if row["split"] == "validation"]
    assert len(rows) == 2
    assert run.results is not None
    assert run.results["estimates"]["elbo"]["count"] == 51
