"""Table 1 of μ-VAE: what a classifier reads from the codes of VAE, β-VAE, μ-VAE #1 and #2.

    for data in mnist fashion; do for model in vae beta-vae muvae-1 muvae-2; do
      uncollapse train examples/muvae/$data-$model.yaml --set training.epochs=3
    done; done
    python examples/muvae/table1.py --output examples/results/muvae-table1.json     # and .md beside it

Nothing is trained here: finished runs are read, and the classifier that was trained beside each model is asked about
the test images. Bridging the ELBO and MMD (2019), table 1.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from uncollapse.files import write_atomically
from uncollapse.training import Run
from uncollapse_muvae import OnlineClassifierConfig

MODELS = {"vae": "VAE", "beta-vae": "β-VAE, β = 4", "muvae-1": "μ-VAE #1, c = 3", "muvae-2": "μ-VAE #2, c = 6"}
# Test accuracy in per cent, as printed.
PAPER = {
    "mnist": {"vae": 93.422, "beta-vae": 62.45, "muvae-1": 95.28, "muvae-2": 96.44},
    "fashion": {"vae": 78.01, "beta-vae": 62.35, "muvae-1": 82.71, "muvae-2": 84.26},
}
# What stands in the table: name in the results, heading, factor.
SHOWN = {
    "online_accuracy": ("classifier beside the model (%)", 100.0),
    "mlp_accuracy": ("classifier afterwards (%)", 100.0),
    "knn_accuracy": ("10-NN (%)", 100.0),
    "reconstruction_error": ("squared error (per image)", 1.0),
    "rate": ("rate (nats)", 1.0),
    "mutual_information": ("mutual information (nats)", 1.0),
    "active_units": ("active units of 10", 1.0),
}


def measure(run: Run) -> dict[str, Any]:
    """Return a finished run's numbers, those of the classifier trained beside it among them."""
    built = run.load("last")
    observer = next(o for o in run.config.training.observers if isinstance(o, OnlineClassifierConfig))
    classifier = observer.build(built.context)
    classifier.load_state_dict(run.checkpoints.open("last").state()["companions"]["observers"]["muvae.classifier"])
    online = classifier.measure(built.model, lambda: built.data.test.batches(500))
    results = run.results or {}
    numbers = {**results.get("estimates", {}), **results.get("probes", {})}
    for name, estimate in online.items():
        numbers[name] = {"value": estimate.value, "standard_error": estimate.standard_error}
    return {name: numbers[name] for name in SHOWN if name in numbers}


def cell(number: dict[str, Any] | None, factor: float) -> str:
    """Return value and standard error in words."""
    if number is None:
        return "not measured"
    value, error = factor * number["value"], number.get("standard_error")
    return f"{value:.4g}" + (f" ± {factor * error:.1g}" if error else "")


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown."""
    heads = ["", "paper (%)", *(label for label, _ in SHOWN.values()), "epochs"]
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    for row in rows:
        cells = [cell(row["numbers"].get(name), factor) for name, (_, factor) in SHOWN.items()]
        title = f"{row['data']}, {MODELS[row['model']]}"
        lines.append(f"| {title} | {row['paper_accuracy_percent']} | {' | '.join(cells)} | {row['epochs']} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Collect the runs that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of run directories")
    parser.add_argument("--output", type=Path, required=True, help="JSON file; a table in Markdown goes beside it")
    arguments = parser.parse_args()
    rows = []
    for data, printed in PAPER.items():
        for model, accuracy in printed.items():
            directory = arguments.runs / f"{data}-{model}"
            if not (directory / "results.json").exists():
                print(f"{directory}: no finished run, left out")
                continue
            run = Run(directory)
            row = {"data": data, "model": model, "epochs": run.config.training.epochs, "seed": run.config.seed}
            rows.append({**row, "paper_accuracy_percent": accuracy, "numbers": measure(run)})
    write_atomically(arguments.output, json.dumps(rows, indent=1) + "\n")
    write_atomically(arguments.output.with_suffix(".md"), table(rows))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
