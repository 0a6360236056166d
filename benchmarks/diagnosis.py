"""Time of a diagnosis of 10,000 images of MNIST's size with the network of examples/mae/mnist-small.yaml, two threads.

The baseline is the ELBO of the same images, estimated as ``uncollapse evaluate`` does with one draw each: one pass of
encoder and decoder over the set. Weights are those before training, and images are random: neither changes the work.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from uncollapse import Batch, DataSpec, LatentVariableModel
from uncollapse.config import BuildContext
from uncollapse.config.pipeline import ModelConfig
from uncollapse.estimators import ELBOEstimator
from uncollapse_diagnosis import diagnose

PIPELINE = Path(__file__).resolve().parent.parent / "examples" / "mae" / "mnist-small.yaml"


def model() -> LatentVariableModel:
    """Return the pipeline's model, untrained."""
    parts = ModelConfig.model_validate(yaml.safe_load(PIPELINE.read_text())["model"])
    context = BuildContext(DataSpec((1, 28, 28), "binary"), latent_shape=parts.posterior.latent_shape)
    encoder = parts.encoder.build(context)
    context = BuildContext(context.data, context.latent_shape, tuple(encoder.feature_shape))
    built = (part.build(context) for part in (parts.posterior, parts.prior, parts.decoder))
    return LatentVariableModel(encoder, *built)


def seconds(function: Callable[[], Any]) -> float:
    """Return the wall time of a call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    """Print both times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    vae, x = model(), torch.bernoulli(torch.full((arguments.examples, 1, 28, 28), 0.2))

    def batches() -> Iterator[Batch]:
        return (Batch(part) for part in x.split(256))

    pass_over = seconds(lambda: ELBOEstimator()(vae, batches))
    whole = seconds(lambda: diagnose(vae, x, classes=10))
    found = {"diagnosis_s": whole, "elbo_s": pass_over, "ratio": whole / pass_over, "examples": arguments.examples}
    print(json.dumps({name: round(value, 2) for name, value in found.items()}))


if __name__ == "__main__":
    main()
