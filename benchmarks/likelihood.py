"""Importance-weighted likelihood, K = 500: test images per second, against the papers' way on the same weights.

The papers' way (released code of VampPrior, which MIM's follows): one image at a time, its draws in chunks of 100; a
chunk is 100 copies of the image that go through the encoder, one draw each, and the decoder. ``ratio_<model>`` is
images per second of the estimator to theirs. ``ratio_<model>_encoded_once`` compares with a reader who is careful
enough to encode the image once a chunk, as DU-VAE's released code does. Both are written with torch's own layers; the
gated PixelCNN alone is the estimator's network, given the image as often as there are draws, with live taps only,
where the released codes multiply masked kernels out.

``mlp``: 784-512-32 and back. ``conv``: InfoVAE's released layers, latent 20. ``gated``: 28x28, 6 layers of 32
channels, the latent in the horizontal stack only, which lets the estimator compute the vertical one once an image.
All are trained for some steps on drawn images, so that weights are of a model's size. ``difference_<model>`` is the
largest difference of an image's NLL, nats, both ways given the same noise. Ratios are medians over alternating runs.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from statistics import median

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from uncollapse import Batch, DataSpec, LatentVariableModel
from uncollapse.config import BuildContext
from uncollapse.decoders import ConvDecoder, MLPDecoder
from uncollapse.encoders import ConvEncoder, MLPEncoder
from uncollapse.estimators import ImportanceWeightedNLL
from uncollapse.likelihoods import BernoulliLikelihood
from uncollapse.posteriors import GaussianPosterior
from uncollapse.priors.standard_normal import StandardNormalPriorConfig
from uncollapse_images.decoders.gated_pixelcnn import GatedPixelCNNDecoder

LIMITS = {"mlp": 3.3, "conv": 1.5, "gated": 2.0}
DIFFERENCE = 1e-4
SHAPE = (1, 28, 28)
K, CHUNK = 500, 100
# Images of one timed run: of the estimator, and of each of the other ways.
IMAGES = {"mlp": (64, 16), "conv": (16, 3), "gated": (2, 1)}
TRAINING = {"mlp": 150, "conv": 15, "gated": 8}

Decode = Callable[[Tensor, Tensor], Tensor]


def drawn(count: int) -> Tensor:
    """Return binary images of a bar each, with some noise, ``[count, 1, 28, 28]``."""
    generator = torch.Generator().manual_seed(0)
    angle, offset, width = (torch.rand(count, 1, 1, generator=generator) for _ in range(3))
    line = torch.linspace(-1, 1, 28)
    distance = (angle * math.pi).cos() * line[:, None] + (angle * math.pi).sin() * line - (offset - 0.5)
    bar = distance.abs() < 0.1 + 0.2 * width
    noise = torch.rand(count, 28, 28, generator=generator) < 0.03
    return (bar ^ noise).float().unsqueeze(1)


class ByHand(nn.Module):
    """The same layers, called as one would by hand; ``decode`` gives logits for latents ``[N, D]`` and images."""

    def __init__(self, model: LatentVariableModel, encoder: nn.Module, head: nn.Module, decode: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head, self.decode = encoder, head, decode
        ours = [p.detach() for p in model.parameters()]
        for mine, theirs in zip(self.parameters(), ours, strict=True):
            mine.data = theirs

    def nll(self, x: Tensor, copies: int, noise: Tensor | None = None) -> Tensor:
        """Return the importance-weighted NLL of one image ``x [1, *X]``, a scalar in nats.

        Args:
            x: The image.
            copies: How often a chunk encodes it.
            noise: ``[K, D]``; drawn here by default.
        """
        weights = []
        for start in range(0, K, CHUNK):
            some = x.expand(copies, *SHAPE)
            mean, logvar = self.head(self.encoder(some)).chunk(2, dim=1)
            std = (0.5 * logvar).exp()
            eps = torch.randn(CHUNK, mean.shape[1]) if noise is None else noise[start : start + CHUNK]
            z = mean + std * eps
            images = x.expand(CHUNK, *SHAPE)
            logits = self.decode(z, images)
            log_p_x = -binary_cross_entropy_with_logits(logits, images, reduction="none").flatten(1).sum(1)
            log_p_z = -0.5 * (z.square() + math.log(2 * math.pi)).sum(1)
            log_q = -0.5 * ((z - mean).square() / logvar.exp() + logvar + math.log(2 * math.pi)).sum(1)
            weights.append(log_p_x + log_p_z - log_q)
        return math.log(K) - torch.cat(weights).double().logsumexp(0)


class Logits(nn.Module):
    """A decoder that needs no image."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor, images: Tensor) -> Tensor:
        """Return the logits of ``images`` for latents ``z [N, D]``."""
        logits: Tensor = self.layers(z)
        return logits


class GatedLogits(nn.Module):
    """The gated PixelCNN, given as many images as latents."""

    def __init__(self, decoder: GatedPixelCNNDecoder) -> None:
        super().__init__()
        self.network = decoder.network

    def forward(self, z: Tensor, images: Tensor) -> Tensor:
        """Return the logits of ``images [N, *X]`` for latents ``z [N, D]``."""
        logits: Tensor = self.network(images.contiguous(), self.network.condition(z))
        return logits


def model_of(encoder: MLPEncoder | ConvEncoder, decoder: nn.Module, latent: int) -> LatentVariableModel:
    context = BuildContext(DataSpec(SHAPE, "binary"), (latent,), encoder.feature_shape)
    posterior = GaussianPosterior(encoder.feature_shape, (latent,))
    return LatentVariableModel(encoder, posterior, StandardNormalPriorConfig().build(context), decoder)


def built(name: str) -> tuple[LatentVariableModel, Callable[[], ByHand]]:
    """Return a model, and what writes it by hand once it is trained."""
    likelihood = BernoulliLikelihood(SHAPE)
    flat, image = nn.Flatten(), nn.Unflatten(1, SHAPE)
    if name == "mlp":
        model = model_of(MLPEncoder(SHAPE, (512,)), MLPDecoder((32,), SHAPE, likelihood, (512,)), 32)
        return model, lambda: ByHand(
            model,
            nn.Sequential(flat, nn.Linear(784, 512), nn.ReLU()),
            nn.Linear(512, 64),
            Logits(nn.Linear(32, 512), nn.ReLU(), nn.Linear(512, 784), image),
        )
    if name == "conv":
        encoder = ConvEncoder(SHAPE, (64, 128), 4, 2, hidden=(1024,))
        model = model_of(encoder, ConvDecoder((20,), SHAPE, likelihood, (128, 64), 4, 2, hidden=(1024,)), 20)
        return model, lambda: ByHand(
            model,
            nn.Sequential(
                nn.Conv2d(1, 64, 4, 2, 1), nn.ReLU(), nn.Conv2d(64, 128, 4, 2, 1), nn.ReLU(),
                flat, nn.Linear(128 * 49, 1024), nn.ReLU(),
            ),
            nn.Linear(1024, 40),
            Logits(
                nn.Linear(20, 1024), nn.ReLU(), nn.Linear(1024, 128 * 49), nn.ReLU(), nn.Unflatten(1, (128, 7, 7)),
                nn.ConvTranspose2d(128, 64, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(64, 1, 4, 2, 1),
            ),
        )  # fmt: skip
    decoder = GatedPixelCNNDecoder((32,), SHAPE, likelihood, (7, 5, 5, 5, 3, 3), 32, condition="horizontal")
    model = model_of(ConvEncoder(SHAPE, (32, 64, 64)), decoder, 32)
    return model, lambda: ByHand(
        model,
        nn.Sequential(
            nn.Conv2d(1, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(64, 64, 3, 2, 1), nn.ReLU(), flat,
        ),
        nn.Linear(1024, 64),
        GatedLogits(decoder),
    )  # fmt: skip


def train(model: LatentVariableModel, images: Tensor, steps: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(steps):
        inference = model(images[step * 50 % 1000 :][:50])
        optimizer.zero_grad()
        (inference.distortion + inference.rate()).mean().backward()
        optimizer.step()


def differences(model: LatentVariableModel, hand: ByHand, x: Tensor) -> float:
    """Return the largest difference of an image's NLL between the two ways, given the same noise."""
    latent = model.latent_shape[0]
    worst = 0.0
    for i in range(len(x)):
        one = x[i : i + 1]
        torch.manual_seed(i)
        ours = ImportanceWeightedNLL(K)(model, lambda one=one: [Batch(one)])["nll"].value  # type: ignore[misc]
        torch.manual_seed(i)
        noise = torch.randn(K, 1, latent)[:, 0]
        for copies in (1, CHUNK):
            worst = max(worst, abs(ours - hand.nll(one, copies, noise).item()))
    return worst


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def compare(name: str, repeats: int) -> dict[str, float]:
    """Return images per second of the three ways, both ratios, and the largest difference."""
    torch.manual_seed(0)
    images = drawn(1100)
    model, by_hand = built(name)
    train(model, images, TRAINING[name])
    hand = by_hand()
    test, (ours, theirs) = images[1000:], IMAGES[name]
    estimator = ImportanceWeightedNLL(K)
    with torch.no_grad():
        ways: dict[str, tuple[int, Callable[[], object]]] = {
            "ours": (ours, lambda: estimator(model, lambda: [Batch(test[:ours])])),
            "papers": (theirs, lambda: [hand.nll(x[None], CHUNK) for x in test[:theirs]]),
            "encoded_once": (theirs, lambda: [hand.nll(x[None], 1) for x in test[:theirs]]),
        }
        difference = differences(model, hand, test[: min(theirs, 4)])
        ways["ours"][1]()
        per_image = {way: [] for way in ways}  # type: dict[str, list[float]]
        for _ in range(repeats):
            for way, (count, run) in ways.items():
                per_image[way].append(seconds(run) / count)
    found = {way: 1 / median(times) for way, times in per_image.items()}
    for way, key in (("papers", "ratio"), ("encoded_once", "ratio_encoded_once")):
        found[key] = median(t / o for t, o in zip(per_image[way], per_image["ours"], strict=True))
    return {**found, "difference": difference}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one flat JSON object, name to ratio")
    parser.add_argument("--repeats", type=int, default=9, help="runs of each way")
    parser.add_argument("--threads", type=int, help="torch's threads; its own choice by default")
    parser.add_argument("--only", choices=LIMITS, action="append", help="these models instead of all")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    found = {name: compare(name, arguments.repeats) for name in arguments.only or LIMITS}
    if arguments.json:
        flat = {}
        for name, numbers in found.items():
            flat[f"ratio_{name}"] = round(numbers["ratio"], 3)
            flat[f"ratio_{name}_encoded_once"] = round(numbers["ratio_encoded_once"], 3)
            flat[f"difference_{name}"] = float(f"{numbers['difference']:.2g}")
        print(json.dumps(flat))
        return
    table = Table(title=f"Images per second, importance-weighted, K = {K}; threads: {torch.get_num_threads()}")
    headings = ("", "estimator", "papers' way", "encoded once", "ratio", "at least", "to encoded once", "difference")
    for heading in headings:
        table.add_column(heading, justify="left" if not heading else "right")
    for name, numbers in found.items():
        speeds = (f"{numbers[way]:.3g}" for way in ("ours", "papers", "encoded_once"))
        ratios = (f"{numbers['ratio']:.2f}", f"{LIMITS[name]}", f"{numbers['ratio_encoded_once']:.2f}")
        table.add_row(name, *speeds, *ratios, f"{numbers['difference']:.1e}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
