"""Time of a training step of MAE's small PixelCNN, against the same network with full masked kernels.

The network is the small decoder of MAE's released code: 7 layers with kernels 7,7,7,5,5,3,3, 5 long skips, 64 channels,
the latent as four maps, weight normalization; binary images of 28x28. The plain network multiplies ``k x k`` kernels by
a mask at every pass and is a module as one would write it. A step is a pass forward and back and a step of fused Adam;
both run eagerly, start from the same weights, and must give the same loss and the same change of it.

``training_step`` is the median over pairs of steps of (ours / plain), the two run one after the other in turns.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from plain_pixelcnn import PlainPixelCNN
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from uncollapse.likelihoods import BernoulliLikelihood
from uncollapse_images.decoders import PixelCNNDecoder
from uncollapse_images.decoders.pixelcnn.decoder import PRESETS

LIMIT = 0.8
LATENT, IMAGE = 32, (1, 28, 28)


class Training:
    """A network, its optimizer, and a step on a batch."""

    def __init__(self, network: nn.Module, loss: Callable[[], Tensor]) -> None:
        self.loss = loss
        self.optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)

    def step(self) -> float:
        """Take a step and return the loss before it."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def seconds(self) -> float:
        """Return how long a step takes."""
        start = time.perf_counter()
        self.step()
        return time.perf_counter() - start


def prepared(batch: int) -> tuple[Training, Training]:
    """Return ours and the plain way, with the same weights, on the same batch."""
    torch.manual_seed(0)
    decoder = PixelCNNDecoder((LATENT,), IMAGE, BernoulliLikelihood(IMAGE), **PRESETS["small"])
    x, z = torch.bernoulli(torch.rand(batch, *IMAGE)), torch.randn(batch, LATENT)
    decoder.initialize(z[:16], x[:16])
    plain = PlainPixelCNN(decoder.network, normalize=True)
    conditioning = decoder.network.condition(z).detach()

    def loss_of(network: nn.Module) -> Callable[[], Tensor]:
        return lambda: binary_cross_entropy_with_logits(network(x, conditioning), x, reduction="sum") / batch

    return Training(decoder.network, loss_of(decoder.network)), Training(plain, loss_of(plain))


def compare(batch: int, repeats: int) -> tuple[float, float, float]:
    """Return the median ratio, and the median seconds of ours and of the plain way, after warm-up steps."""
    ours, plain = prepared(batch)
    losses = [(ours.step(), plain.step()) for _ in range(2)]
    for ours_loss, plain_loss in losses:
        if abs(ours_loss - plain_loss) > 1e-3 * plain_loss:
            raise RuntimeError(f"the networks do not train alike: losses {ours_loss:.4f} and {plain_loss:.4f}")
    pairs = []
    for i in range(repeats):
        # In turns, so that neither always runs on what the other left in the caches.
        turns = [("ours", ours), ("plain", plain)]
        times = {who: training.seconds() for who, training in (turns if i % 2 else turns[::-1])}
        pairs.append((times["ours"], times["plain"]))
    return median(a / b for a, b in pairs), *(median(times) for times in zip(*pairs, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one flat JSON object, name to ratio")
    parser.add_argument("--batch", type=int, default=32, help="images of a step")
    parser.add_argument("--repeats", type=int, default=9, help="pairs of steps")
    parser.add_argument("--threads", type=int, help="torch's threads; its own choice by default")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    ratio, ours, plain = compare(arguments.batch, arguments.repeats)
    if arguments.json:
        print(json.dumps({"training_step": round(ratio, 4)}))
    else:
        table = Table(title=f"A training step on {arguments.batch} images, threads: {torch.get_num_threads()}")
        for heading in ("", "ours", "plain", "ratio", "at most"):
            table.add_column(heading, justify="left" if not heading else "right")
        table.add_row("training_step", f"{ours:.2f} s", f"{plain:.2f} s", f"{ratio:.3f}", f"{LIMIT}")
        Console().print(table)
    sys.exit(ratio > LIMIT)


if __name__ == "__main__":
    main()
