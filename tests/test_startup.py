"""What a start costs is measured in benchmarks/startup.py; here: what it imports, in a process of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

HEAVY = ("datasets", "plotly", "sklearn", "tensorboard", "tokenizers", "torchvision", "transformers", "zuko")

DIGITS: dict[str, Any] = {
    "name": "digits",
    "data": {"type": "digits"},
    "model": {"encoder": "mlp", "posterior": {"type": "gaussian", "latent_dim": 2}, "decoder": "mlp"},
    "training": {"epochs": 1},
}

UNTIL_THE_FIRST_STEP = """\
import json, os, sys
from torch.optim.optimizer import register_optimizer_step_post_hook

def stop(*_):
    print("MODULES", json.dumps(sorted(sys.modules)), flush=True)
    os._exit(0)

register_optimizer_step_post_hook(stop)
from uncollapse.cli import main
sys.exit(main(["train", "pipeline.yaml", "--quiet"]))
"""


def imported_by(code: str, folder: Path) -> set[str]:
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    said = [line for line in ended.stdout.splitlines() if line.startswith("MODULES ")]
    assert said, ended.stderr
    return set(json.loads(said[0].removeprefix("MODULES ")))


def trained(pipeline: dict[str, Any], folder: Path) -> set[str]:
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(pipeline))
    return imported_by(UNTIL_THE_FIRST_STEP, folder)


def plugins_in(modules: set[str]) -> set[str]:
    """Return the plugins whose entry modules were imported; modules of commands, which are light, always are."""
    found = (re.fullmatch(r"uncollapse_(\w+)\.plugin", module) for module in modules)
    return {match[1] for match in found if match}


def test_training_digits_imports_no_plugin_and_nothing_heavy(tmp_path: Path) -> None:
    modules = trained(DIGITS, tmp_path)
    assert plugins_in(modules) == set()
    assert sorted(modules.intersection(HEAVY)) == []


def test_a_pipeline_imports_the_plugin_that_it_names_and_no_other(tmp_path: Path) -> None:
    modules = trained({**DIGITS, "regularizers": [{"type": "mae.mutual_divergence"}]}, tmp_path)
    assert plugins_in(modules) == {"mae"}
    assert sorted(modules.intersection(HEAVY)) == []


def test_the_registry_reads_metadata_and_imports_no_plugin(tmp_path: Path) -> None:
    code = (
        "import json, sys\nfrom uncollapse.plugins import registry\nassert len(registry().installed) > 10\n"
        "print('MODULES', json.dumps(sorted(sys.modules)))"
    )
    modules = imported_by(code, tmp_path)
    assert plugins_in(modules) == set()
    assert {m for m in modules if m.startswith(("uncollapse.decoders", "uncollapse.estimators"))} == set()
    assert sorted(modules.intersection(HEAVY)) == []
