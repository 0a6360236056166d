"""MIM's figures 2, 3 and 8: VAE against MIM over the size of the networks or of the latent, ten seeds each.

    python examples/mim/sweep.py figure2
    python examples/mim/sweep.py figure2 --only mim --values 5 20            # some cells; two processes share the work
    python examples/mim/sweep.py figure3 --set data.root=../shared/data
    python examples/mim/sweep.py figure2 --collect examples/results/mim-figure2.json --figures docs/figures

A cell is one pipeline at one value with all its seeds, trained at once; its file is written when it is done, and a
study that was interrupted goes on with the cells that are missing. ``--collect`` trains nothing: it writes all cells as
one JSON file and beside it a table in Markdown; with ``--figures`` it draws the curves, which needs matplotlib.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from together import train_together
from uncollapse import Pipeline
from uncollapse.files import write_atomically

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Sweep:
    """What a figure varies.

    Args:
        pipelines: File of every curve.
        keys: Fields that get the value; ``{}`` stands for it.
        values: The figure's points.
        axis: Name of the quantity.
    """

    pipelines: dict[str, str]
    keys: tuple[str, ...]
    values: tuple[int, ...]
    axis: str


WIDTHS = ("model.encoder.hidden=[{}]", "model.decoder.hidden=[{}]")
LATENT = ("model.posterior.latent_dim={}",)
UNITS = (5, 20, 50, 100, 200, 300, 400, 500)
DIMENSIONS = tuple(range(2, 21, 2))
SWEEPS = {
    "figure2": Sweep({"mim": "figure2-mim", "vae": "figure2-vae"}, WIDTHS, UNITS, "hidden units"),
    "figure3": Sweep({"mim": "figure3-mim", "vae": "figure3-vae"}, LATENT, DIMENSIONS, "latent dimensions"),
    "figure8": Sweep({"mim-h": "figure8-mim-h", "vae+h": "figure8-vae-h"}, WIDTHS, UNITS, "hidden units"),
    "mixture20": Sweep({"mim": "mixture20-mim", "vae": "mixture20-vae"}, LATENT, DIMENSIONS, "latent dimensions"),
}

# What the figures show: name in the results, heading, factor.
SHOWN = {
    "ksg_mutual_information": ("MI, KSG (nats)", 1.0),
    "single_sample_nll": ("NLL, one sample (nats)", 1.0),
    "nll": ("NLL, 500 samples (nats)", 1.0),
    "reconstruction_rmse": ("reconstruction RMSE", 1.0),
    "reconstruction_mean_norm": ("reconstruction, mean norm", 1.0),
    "knn_accuracy": ("5-NN (%)", 100.0),
}


def train_cell(path: Path, curve: str, sweep: Sweep, value: int, seeds: int, overrides: list[str]) -> None:
    """Train and measure every seed of one cell, and write its file."""
    source = HERE / f"{sweep.pipelines[curve]}.yaml"
    set_to = [key.format(value) for key in sweep.keys]
    pipelines = [Pipeline.from_yaml(source, [*set_to, *overrides, f"seed={seed}"]) for seed in range(1, seeds + 1)]
    wall, cpu = time.perf_counter(), time.process_time()
    outcomes = train_together(pipelines)
    cell = {
        "curve": curve,
        "value": value,
        "pipeline": source.name,
        # Where the files lie on this machine is no setting of the experiment.
        "overrides": [o for o in (*set_to, *overrides) if not o.startswith(("data.root=", "data.download="))],
        "wall_seconds": round(time.perf_counter() - wall, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "runs": [{"seed": p.config.seed, **asdict(o)} for p, o in zip(pipelines, outcomes, strict=True)],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(cell, indent=1) + "\n")


def numbers_of(run: dict[str, Any]) -> dict[str, float]:
    """Return the shown numbers of one run."""
    found = {**run["results"]["estimates"], **run["results"]["probes"]}
    plain = {name: found[name]["value"] for name in SHOWN if name in found}
    # The released code plots -log q(x) estimated from a single sample, which is the negative bound.
    return {**plain, "single_sample_nll": -found["elbo"]["value"]}


def spread(values: list[float], factor: float) -> tuple[float, float]:
    """Return mean and standard deviation over seeds."""
    scaled = [factor * v for v in values]
    return fmean(scaled), stdev(scaled) if len(scaled) > 1 else 0.0


def collect(sweep: Sweep, cells: list[dict[str, Any]], output: Path, figures: Path | None) -> None:
    """Write all cells as JSON and as a Markdown table, and draw the curves."""
    cells = sorted(cells, key=lambda c: (c["curve"], c["value"]))
    write_atomically(output, json.dumps(cells, indent=1) + "\n")
    rows = [f"| | {sweep.axis} | {' | '.join(label for label, _ in SHOWN.values())} | epochs |"]
    rows.append("|" + "---|" * (len(SHOWN) + 3))
    curves: dict[str, dict[str, list[tuple[float, float, float]]]] = {}
    for cell in cells:
        numbers = [numbers_of(run) for run in cell["runs"]]
        row = []
        for name, (_, factor) in SHOWN.items():
            mean, deviation = spread([n[name] for n in numbers], factor)
            curves.setdefault(name, {}).setdefault(cell["curve"], []).append((cell["value"], mean, deviation))
            row.append(f"{mean:.3g} ± {deviation:.2g}")
        epochs = fmean(run["epochs"] for run in cell["runs"])
        rows.append(f"| {cell['curve']} | {cell['value']} | {' | '.join(row)} | {epochs:.0f} |")
    write_atomically(output.with_suffix(".md"), "\n".join(rows) + "\n")
    if figures is not None:
        draw(curves, sweep.axis, figures / f"{output.stem}.svg")


def draw(curves: dict[str, dict[str, list[tuple[float, float, float]]]], axis: str, file: Path) -> None:
    """Draw the curves: means, with standard deviations over seeds."""
    import matplotlib

    matplotlib.use("svg")
    # Ids that do not change from one drawing to the next, so that a figure changes only with its data.
    matplotlib.rcParams["svg.hashsalt"] = "uncollapse"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(12, 6.5), layout="constrained")
    for place, (name, (label, _)) in zip(axes.flat, SHOWN.items(), strict=True):
        for color, (curve, points) in zip(("tab:blue", "tab:red"), sorted(curves[name].items()), strict=True):
            x, y, deviation = zip(*points, strict=True)
            place.errorbar(x, y, deviation, marker="o", markersize=3, capsize=2, label=curve, color=color)
        place.set_xlabel(axis)
        place.set_title(label)
    axes[0, 0].legend()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None})


def main() -> None:
    """Train the missing cells of a figure, or collect them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", choices=SWEEPS)
    parser.add_argument("--folder", type=Path, help="where cells are kept; runs/mim/FIGURE by default")
    parser.add_argument("--only", action="append", help="this curve instead of all")
    parser.add_argument("--values", type=int, nargs="+", help="these points instead of the figure's")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--set", action="append", default=[], help="override of every pipeline, a.b=value")
    parser.add_argument("--collect", type=Path, help="train nothing; write what is there to this JSON file")
    parser.add_argument("--figures", type=Path, help="with --collect: folder for the drawing of the curves")
    arguments = parser.parse_args()
    sweep = SWEEPS[arguments.figure]
    folder = arguments.folder or Path("runs/mim") / arguments.figure
    if arguments.collect is not None:
        collect(
            sweep,
            [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))],
            arguments.collect,
            arguments.figures,
        )
        return
    for curve in arguments.only or sweep.pipelines:
        for value in arguments.values or sweep.values:
            path = folder / f"{curve}-{value}.json"
            if path.exists():
                print(f"{path}: there already", flush=True)
                continue
            print(f"{arguments.figure}, {curve}, {value} {sweep.axis}", flush=True)
            train_cell(path, curve, sweep, value, arguments.seeds, arguments.set)


if __name__ == "__main__":
    torch.set_num_threads(1)  # threads of small operations only wait for one another
    main()
