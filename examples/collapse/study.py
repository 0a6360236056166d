"""Which decoder ignores its code? Four PixelCNNs on MNIST, measured after every epoch.

Masked and gated PixelCNN, with the code as a bias of every layer and as feature maps; all else is ``mnist.yaml``.

    python examples/collapse/study.py --data ../shared/data                  # one after the other
    python examples/collapse/study.py --data ../shared/data --only gated-maps
    python examples/collapse/study.py --collect examples/results/collapse.json --figures docs/figures

Each run directory keeps what was measured over training in ``over_training.json``; an interrupted study goes on where
it stopped. The figures need matplotlib.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from uncollapse.config.load import load_config
from uncollapse.config.pipeline import PipelineConfig
from uncollapse.evaluation import evaluate
from uncollapse.files import write_atomically
from uncollapse.pipeline import Pipeline
from uncollapse.training import Run, Trainer

HERE = Path(__file__).parent
DECODERS: dict[str, dict[str, Any]] = {
    "masked-bias": {"type": "pixelcnn", "kernels": [7, 5, 5, 5, 5], "channels": 32, "conditioning": "bias"},
    "masked-maps": {"type": "pixelcnn", "kernels": [7, 5, 5, 5, 5], "channels": 32, "conditioning": "maps"},
    "gated-bias": {"type": "gated_pixelcnn", "kernels": [7, 5, 5, 5, 5], "channels": 16, "conditioning": "bias"},
    "gated-maps": {"type": "gated_pixelcnn", "kernels": [7, 5, 5, 5, 5], "channels": 16, "conditioning": "maps"},
}
OVER_TRAINING = "over_training.json"
EXAMPLES = 2000


def pipeline_of(name: str, data: str | None, epochs: int | None) -> PipelineConfig:
    """Return the pipeline of one of the four decoders."""
    raw = load_config(HERE / "mnist.yaml").model_dump(mode="json")
    raw["name"], raw["model"]["decoder"] = name, DECODERS[name]
    if data is not None:
        raw["data"].update(root=data, download=False)
    if epochs is not None:
        raw["training"]["epochs"] = epochs
    return Pipeline.from_dict(raw).config


def train(config: PipelineConfig, directory: Path) -> None:
    """Train one model and measure it before the first epoch and after every one; go on where it was interrupted."""
    resume = directory.exists()
    run = Run.open(directory, config, resume=resume)
    built = Pipeline(config).build()
    trainer = Trainer(config, built, run)
    during = config.evaluation.model_copy(
        update={
            "examples": EXAMPLES,
            "estimators": tuple(e for e in config.evaluation.estimators if e.type != "nll"),
        }
    )
    kept = directory / OVER_TRAINING
    rows: list[dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else []
    try:
        trainer.prepare(resume=resume)
        while True:
            epoch = trainer.state.epoch
            if epoch not in [row["epoch"] for row in rows]:
                rows.append({"epoch": epoch, "step": trainer.state.step, **evaluate(built, during, config.seed)})
                write_atomically(kept, json.dumps(rows, indent=1) + "\n")
            if epoch == config.training.epochs:
                break
            begin = time.process_time()
            trainer.train_epoch()
            trainer.finish_epoch()
            print(f"{config.name}: epoch {epoch + 1}, {time.process_time() - begin:.0f} s of CPU time", flush=True)
    finally:
        trainer.close()
    trained = run.load()
    run.write_results(evaluate(trained, config.evaluation, config.seed))


def collect(runs: Path, output: Path) -> dict[str, Any]:
    """Return what was measured over training, by run, and write it as JSON."""
    found = {
        name: json.loads((runs / name / OVER_TRAINING).read_text())
        for name in DECODERS
        if (runs / name / OVER_TRAINING).exists()
    }
    write_atomically(output, json.dumps(found, indent=1) + "\n")
    return found


def draw_curves(found: dict[str, Any], folder: Path) -> None:
    """Draw rate, mutual information and k-NN accuracy over training, with their standard errors."""
    import matplotlib

    matplotlib.use("svg")
    # Ids that do not change from one drawing to the next, so that a figure changes only with its data.
    matplotlib.rcParams["svg.hashsalt"] = "uncollapse"
    from matplotlib import pyplot

    shown = {
        "rate": ("estimates", "rate (nats)", 1),
        "mutual_information": ("estimates", "mutual information (nats)", 1),
        "knn_accuracy": ("probes", "10-NN accuracy (%)", 100),
    }
    figure, axes = pyplot.subplots(1, len(shown), figsize=(12, 3.6), layout="constrained")
    for axis, (key, (group, label, factor)) in zip(axes, shown.items(), strict=True):
        for name, rows in found.items():
            values = [row[group][key] for row in rows]
            axis.errorbar(
                [row["epoch"] for row in rows],
                [factor * v["value"] for v in values],
                [factor * (v["standard_error"] or 0) for v in values],
                marker="o",
                markersize=3,
                capsize=2,
                label=name,
                linestyle="-" if name.endswith("maps") else "--",
                color="tab:blue" if name.startswith("masked") else "tab:orange",
            )
        axis.set_xlabel("epoch")
        axis.set_title(label)
        axis.set_ylim(bottom=0 if key != "knn_accuracy" else None)
    axes[0].legend()
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "collapse-curves.svg", metadata={"Date": None})


def draw_samples(runs: Path, names: list[str], folder: Path) -> None:
    """Draw, for each model, test images, two reconstructions of each, and samples from the prior."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    count = 10
    for name in names:
        built = Run(runs / name).load()
        model = built.model.eval()
        torch.manual_seed(0)
        x = next(iter(built.data.test.batches(count, shuffle=True))).x
        with torch.no_grad():
            again = [model.generate(model.infer(x).sample()).sample() for _ in range(2)]
            fresh = model.generate(model.p_z().sample((count,))).sample()
        rows = torch.stack([x, *again, fresh])[:, :, 0]
        picture = 1 - rows.permute(0, 2, 1, 3).reshape(len(rows) * 28, count * 28)
        larger = picture.repeat_interleave(2, 0).repeat_interleave(2, 1)
        pyplot.imsave(folder / f"collapse-{name}.png", larger, cmap="gray")


def main() -> None:
    """Run the study, or collect it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder that holds MNIST in torchvision's layout; downloaded to data/ without")
    parser.add_argument("--runs", type=Path, default=Path("runs/collapse"), help="folder of the run directories")
    parser.add_argument("--only", choices=DECODERS, action="append", help="these decoders instead of all four")
    parser.add_argument("--epochs", type=int, help="instead of the pipeline's number")
    parser.add_argument("--collect", type=Path, help="train nothing; write what was measured to this JSON file")
    parser.add_argument("--figures", type=Path, help="with --collect: folder for curves and samples")
    arguments = parser.parse_args()
    if arguments.collect is None:
        for name in arguments.only or DECODERS:
            train(pipeline_of(name, arguments.data, arguments.epochs), arguments.runs / name)
        return
    found = collect(arguments.runs, arguments.collect)
    if arguments.figures is not None:
        draw_curves(found, arguments.figures)
        draw_samples(arguments.runs, arguments.only or list(found), arguments.figures)


if __name__ == "__main__":
    main()
