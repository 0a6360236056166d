"""Which loss makes encoder and decoder two halves of one model? Appendix E.2, figure 9, of MIM (Livne et al., 2019).

    python examples/mim/consistency.py                       # two runs of a few minutes each on one core
    python examples/mim/consistency.py --set training.epochs=5

Data, latents and all that is learned are mixtures of Gaussians in one dimension, so samples can be compared by their
sorted values. For each loss the table gives the Wasserstein distance (the mean distance between samples, put in order):

* reconstruction, (a) and (b) of the figure: data against what comes back through code and decoder; anchor likewise;
* anchors, (c) and (d): data against the decoder's output from the anchor of z; that anchor against the codes of data;
* priors, (e) and (f): q(x) against the decoder's output from p(z); p(z) against the codes of q(x).

The paper finds the first two small for both losses, and the last only for MIM.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from uncollapse import Pipeline
from uncollapse.files import write_atomically
from uncollapse.training import Run

HERE = Path(__file__).parent
SAMPLES = 20_000


def distance(a: Tensor, b: Tensor) -> float:
    """Return the Wasserstein distance of two samples of equal size in one dimension."""
    return float((a.flatten().sort().values - b.flatten().sort().values).abs().mean())


@torch.no_grad()
def compare(run: Run) -> dict[str, float]:
    """Return the distances for a trained run."""
    built = run.load()
    model, objective = built.model.eval(), built.objective
    torch.manual_seed(0)
    learned: Any = objective
    x = torch.cat([batch.x for batch in built.data.test.batches(1000)])
    count = (len(x),)
    z = learned.anchor().sample(count)

    def encode(x: Tensor) -> Tensor:
        return model.infer(x).sample()

    def decode(z: Tensor) -> Tensor:
        return model.generate(z).sample()

    q_x, p_z = learned.q_x().sample(count), model.p_z().sample(count)
    return {
        "reconstruction of x": distance(x, decode(encode(x))),
        "reconstruction of z": distance(z, encode(decode(z))),
        "x from the anchor": distance(x, decode(z)),
        "z from the data": distance(z, encode(x)),
        "x from the prior": distance(q_x, decode(p_z)),
        "z from q(x)": distance(p_z, encode(q_x)),
    }


def main() -> None:
    """Train what is not trained yet and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/mim/consistency"))
    parser.add_argument("--set", action="append", default=[], help="override of both pipelines, a.b=value")
    parser.add_argument("--output", type=Path, help="write the distances to this JSON file too")
    arguments = parser.parse_args()
    found = {}
    for name in ("ce", "mim"):
        directory = arguments.runs / name
        pipeline = Pipeline.from_yaml(HERE / f"consistency-{name}.yaml", [f"data.test={SAMPLES}", *arguments.set])
        run = Run(directory) if (directory / "results.json").exists() else pipeline.fit(directory)
        found[name] = compare(run)
    print(f"{'':22}{'L_CE':>8}{'L_MIM':>8}")
    for quantity in found["ce"]:
        print(f"{quantity:22}{found['ce'][quantity]:8.3f}{found['mim'][quantity]:8.3f}")
    if arguments.output is not None:
        write_atomically(arguments.output, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
