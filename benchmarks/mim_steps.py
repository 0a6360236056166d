"""Time of a training step of full MIM and of A-MIM with a PixelCNN, against that of the plain VAE.

The model is that of examples/mim/mnist-*-small.yaml: full MIM draws a batch of 28x28 images from the PixelCNN at every
step and encodes them, which the paper leaves out with autoregressive decoders because sampling is slow. Batches of 100
random binary images; a step is a pass forward and back and a step of Adam.

``mim_step``, ``mim_20_step`` (20 drawn images instead of 100) and ``amim_step`` are medians, over rounds in which all
take one step in turn, of (step / plain VAE's step).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import yaml
from rich.console import Console
from rich.table import Table
from uncollapse import Batch, DataSpec, LatentVariableModel
from uncollapse.config import BuildContext
from uncollapse.config.pipeline import ModelConfig
from uncollapse.plugins import registry
from uncollapse.protocols import Progress

PIPELINE = Path(__file__).resolve().parent.parent / "examples" / "mim" / "mnist-vae-small.yaml"
OBJECTIVES = {
    "vae": {"type": "elbo"},
    "amim": {"type": "mim.amim"},
    "mim_20": {"type": "mim.mim", "baseline": "leave_one_out", "decode_examples": 20},
    "mim": {"type": "mim.mim", "baseline": "leave_one_out"},
}


def step_of(name: str, batch: int) -> Callable[[], float]:
    """Return what takes a step and says how long it took, in seconds."""
    torch.manual_seed(0)
    parts = ModelConfig.model_validate(yaml.safe_load(PIPELINE.read_text())["model"])
    context = BuildContext(DataSpec((1, 28, 28), "binary"), latent_shape=parts.posterior.latent_shape)
    encoder = parts.encoder.build(context)
    context = BuildContext(context.data, context.latent_shape, tuple(encoder.feature_shape))
    model = LatentVariableModel(encoder, *(p.build(context) for p in (parts.posterior, parts.prior, parts.decoder)))
    fields = OBJECTIVES[name]
    objective = registry().get(f"objective:{fields['type']}").model_validate(fields).build(context)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    x = torch.bernoulli(torch.rand(batch, 1, 28, 28))
    model.train()

    def step() -> float:
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        objective(model, Batch(x), Progress()).total.backward()
        optimizer.step()
        return time.perf_counter() - start

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one flat JSON object, name to ratio")
    parser.add_argument("--batch", type=int, default=100, help="images of a step")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of one step each")
    parser.add_argument("--threads", type=int, help="torch's threads; its own choice by default")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    steps = {name: step_of(name, arguments.batch) for name in OBJECTIVES}
    rounds = [{name: step() for name, step in steps.items()} for _ in range(arguments.rounds + 1)][1:]
    ratios = {name: median(r[name] / r["vae"] for r in rounds) for name in OBJECTIVES if name != "vae"}
    if arguments.json:
        print(json.dumps({f"{name}_step": round(ratio, 4) for name, ratio in ratios.items()}))
        return
    table = Table(title=f"A training step on {arguments.batch} images, threads: {torch.get_num_threads()}")
    for heading in ("objective", "seconds", "ratio to the VAE's"):
        table.add_column(heading, justify="left" if heading == "objective" else "right")
    for name in OBJECTIVES:
        table.add_row(name, f"{median(r[name] for r in rounds):.3f}", f"{ratios.get(name, 1.0):.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
