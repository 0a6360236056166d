"""Time from a command to the first optimizer step, beyond ``import torch``.

Each row is a process of its own, started anew for every repeat, the rows in turns; bytecode is cached, as it is where
pip installed the packages. A process says when it has got where its row ends; Python's own start is in every row.

``torch``: ``import torch``. ``plain step``: that, a linear layer, Adam and one step, what any PyTorch program waits for
(torch imports its compiler with the first optimizer). ``registry``: ``registry()`` finds the installed plugins.
``train``: the command ``uncollapse train`` on the bundled digits, MLPs and the ELBO, to the end of its first step.
The difference to ``torch`` is taken within each turn. At most 1.5 s are allowed for ``train``, or it exits with 1.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

LIMIT = 1.5

PIPELINE = """\
name: startup
data: {type: digits, binarize: dynamic}
model:
  encoder: mlp
  posterior: {type: gaussian, latent_dim: 8}
  decoder: mlp
training: {epochs: 1}
"""

SAY = "import time\ndef arrived(): print('arrived', time.time(), flush=True)\n"

ROWS = {
    "torch": "import torch\narrived()",
    "plain step": (
        "import torch\nlayer = torch.nn.Linear(2, 2)\noptimizer = torch.optim.Adam(layer.parameters(), fused=True)\n"
        "layer(torch.ones(1, 2)).sum().backward()\noptimizer.step()\narrived()"
    ),
    "registry": "from uncollapse.plugins import registry\nregistry()\narrived()",
    # torch's own hook after a step of any optimizer; everything else is the command as it is.
    "train": (
        "import os, sys\nfrom torch.optim.optimizer import register_optimizer_step_post_hook\n"
        "register_optimizer_step_post_hook(lambda *_: (arrived(), os._exit(0)))\n"
        "from uncollapse.cli import main\nsys.argv = ['uncollapse', 'train', 'pipeline.yaml', '--quiet']\n"
        "sys.exit(main())"
    ),
}


def seconds(row: str) -> float:
    """Run a row in a fresh process and return the seconds until it arrived."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "pipeline.yaml").write_text(PIPELINE)
        start = time.time()
        ended = subprocess.run(
            [sys.executable, "-c", SAY + ROWS[row]],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    times = [line.split()[1] for line in ended.stdout.splitlines() if line.startswith("arrived ")]
    if ended.returncode or len(times) != 1:
        raise RuntimeError(f"{row}: it did not arrive: {ended.stdout}{ended.stderr}")
    return float(times[0]) - start


def measure(repeats: int) -> dict[str, list[float]]:
    """Return the seconds of every repeat of every row; a turn before them fills the caches."""
    turns = [{row: seconds(row) for row in ROWS} for _ in range(repeats + 1)][1:]
    return {row: [turn[row] for turn in turns] for row in ROWS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object: seconds of every repeat by row")
    parser.add_argument("--repeats", type=int, default=9, help="processes for each row")
    arguments = parser.parse_args()
    times = measure(arguments.repeats)
    beyond = {row: [t - base for t, base in zip(times[row], times["torch"], strict=True)] for row in ROWS}
    if arguments.json:
        print(json.dumps({row: [round(t, 3) for t in times[row]] for row in ROWS}))
    else:
        table = Table(title=f"Seconds, median (lowest to highest) of {arguments.repeats} fresh processes")
        for heading in ("", "from the start", "beyond import torch", "at most"):
            table.add_column(heading, justify="left" if not heading else "right")
        for row in ROWS:
            limit = f"{LIMIT}" if row == "train" else ""
            table.add_row(row, spread(times[row]), "" if row == "torch" else spread(beyond[row]), limit)
        Console().print(table)
    if median(beyond["train"]) > LIMIT:
        sys.exit(f"train: {median(beyond['train']):.2f} s beyond import torch, at most {LIMIT} s are allowed")


def spread(values: list[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
