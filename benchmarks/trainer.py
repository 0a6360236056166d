"""Time of a training epoch of the Trainer, with its metrics, against a bare PyTorch loop on the same model and data.

``mlp``: 784-512-32 and back, ReLU. ``conv``: three strided convolutions and three transposed ones, latent 32.
Both loops start from the same weights, slice the same random binary images by a permutation, take batches of 100, and
step fused Adam; both run eagerly. The bare loop adds up its loss in a tensor; the Trainer logs every term, every 50
steps. Validation and checkpoints, which the bare loop has not, are left out.
Each ratio is the median over pairs of epochs of (Trainer / bare), the two run one after the other in turns.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Literal

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from uncollapse.config import DataConfig
from uncollapse.config.pipeline import ModelConfig, PipelineConfig, TrainingConfig
from uncollapse.data import InMemorySource, TensorSplit
from uncollapse.decoders.conv import ConvDecoderConfig
from uncollapse.decoders.mlp import MLPDecoderConfig
from uncollapse.encoders.conv import ConvEncoderConfig
from uncollapse.encoders.mlp import MLPEncoderConfig
from uncollapse.pipeline import Pipeline
from uncollapse.posteriors.gaussian import GaussianPosteriorConfig
from uncollapse.training import Run, Trainer

LIMIT = 1.03
BATCH, STEPS, LATENT = 100, 50, 32


class RandomBits(DataConfig):
    """Random binary images."""

    type: Literal["random_bits"] = "random_bits"
    batch_size: int = BATCH

    def build(self, seed: int) -> InMemorySource:
        """Return the source."""
        generator = torch.Generator().manual_seed(seed)
        images = torch.randint(2, (BATCH * STEPS, 1, 28, 28), generator=generator).float()
        train = TensorSplit(images, support="binary", seed=seed)
        return InMemorySource(train, train, train)


MODELS = {
    "mlp": (MLPEncoderConfig(hidden=(512,)), MLPDecoderConfig(hidden=(512,))),
    "conv": (ConvEncoderConfig(channels=(16, 32, 32)), ConvDecoderConfig(channels=(32, 32, 16))),
}


class BareVAE(nn.Module):
    """The same layers, called as one would by hand."""

    def __init__(self, name: str) -> None:
        super().__init__()
        if name == "mlp":
            self.encoder: nn.Module = nn.Sequential(nn.Flatten(), nn.Linear(784, 512), nn.ReLU())
            self.head = nn.Linear(512, 2 * LATENT)
            self.decoder: nn.Module = nn.Sequential(
                nn.Linear(LATENT, 512), nn.ReLU(), nn.Linear(512, 784), nn.Unflatten(1, (1, 28, 28))
            )
            return
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(32, 32, 3, 2, 1), nn.ReLU(), nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Linear(512, 2 * LATENT)
        self.decoder = nn.Sequential(
            nn.Linear(LATENT, 512), nn.ReLU(), nn.Unflatten(1, (32, 4, 4)),
            nn.ConvTranspose2d(32, 32, 3, 2, 1, 0), nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 3, 2, 1, 1), nn.ReLU(),
            nn.ConvTranspose2d(16, 1, 3, 2, 1, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Return the negative evidence lower bound of ``x [B, 1, 28, 28]``, nats per example."""
        mean, logvar = self.head(self.encoder(x)).chunk(2, dim=1)
        z = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
        distortion = binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum")
        rate = -0.5 * torch.sum(1 + logvar - mean.square() - logvar.exp())
        return (distortion + rate) / len(x)


class BareLoop:
    """A loop as one would write it by hand."""

    def __init__(self, model: BareVAE, images: Tensor) -> None:
        self.model, self.images = model, images
        self.optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def epoch(self) -> float:
        """Train for one epoch and return its mean loss."""
        total = torch.zeros((), device=self.images.device)
        order = torch.randperm(len(self.images)).to(self.images.device)
        for start in range(0, len(order), BATCH):
            batch = self.images[order[start : start + BATCH]]
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.model(batch)
            loss.backward()
            self.optimizer.step()
            total += loss.detach()
        return total.item() / STEPS


def prepared(name: str, folder: Path, repeats: int) -> tuple[Trainer, BareLoop]:
    """Return the two loops with the same weights and data."""
    encoder, decoder = MODELS[name]
    config = PipelineConfig(
        name=name,
        data=RandomBits(),
        model=ModelConfig(encoder=encoder, posterior=GaussianPosteriorConfig(latent_dim=LATENT), decoder=decoder),
        training=TrainingConfig(epochs=repeats + 2),
    )
    built = Pipeline(config).build()
    trainer = Trainer(config, built, Run(folder / name), quiet=True)
    trainer.prepare()
    bare = BareVAE(name).to(trainer.device)
    weights = [p.detach() for p in built.model.parameters()]
    for ours, theirs in zip(weights, bare.parameters(), strict=True):
        theirs.data.copy_(ours)
    images = next(iter(built.data.train.batches(BATCH * STEPS, device=trainer.device))).x
    return trainer, BareLoop(bare, images)


def seconds(epoch: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    epoch()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def compare(name: str, folder: Path, repeats: int) -> tuple[float, float, float]:
    """Return the median ratio, and the median milliseconds of a step of the Trainer and of the bare loop."""
    trainer, bare = prepared(name, folder, repeats)

    def trainer_epoch() -> None:
        trainer.train_epoch()
        trainer.state.epoch, trainer.state.position = trainer.state.epoch + 1, 0

    trainer_epoch()
    bare.epoch()
    pairs = []
    for i in range(repeats):
        # In turns, so that neither always runs on what the other left in the caches.
        turns = [("ours", trainer_epoch), ("bare", bare.epoch)]
        times = {who: seconds(epoch, trainer.device) for who, epoch in (turns if i % 2 else turns[::-1])}
        pairs.append((times["ours"], times["bare"]))
    ours, theirs = trainer.run.metrics()[-1]["loss"], bare.epoch()
    trainer.close()
    if abs(ours - theirs) > 0.02 * theirs:
        raise RuntimeError(f"{name}: the loops do not train the same model: losses {ours:.1f} and {theirs:.1f}")
    ours_ms, theirs_ms = (1e3 * median(times) / STEPS for times in zip(*pairs, strict=True))
    return median(a / b for a, b in pairs), ours_ms, theirs_ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one flat JSON object, name to ratio")
    parser.add_argument("--repeats", type=int, default=40, help="pairs of epochs for each ratio")
    parser.add_argument("--threads", type=int, help="torch's threads; its own choice by default")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        found = {name: compare(name, Path(folder), arguments.repeats) for name in MODELS}
    if arguments.json:
        print(json.dumps({name: round(ratio, 4) for name, (ratio, _, _) in found.items()}))
        return
    table = Table(title=f"One training step, threads: {torch.get_num_threads()}")
    for heading in ("", "Trainer", "bare loop", "ratio", "at most"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, (ratio, ours, theirs) in found.items():
        table.add_row(name, f"{ours:.3f} ms", f"{theirs:.3f} ms", f"{ratio:.4f}", f"{LIMIT}")
    Console().print(table)


if __name__ == "__main__":
    main()
