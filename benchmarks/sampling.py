"""Time to draw from autoregressive decoders, against loops that run the whole network again for every value.

``gated``: a gated PixelCNN of 6 layers (kernels 7,5,5,5,5,5) and 64 channels, the latent as a bias of every gate.
``masked``: the large PixelCNN of MAE's released code, 13 layers and 11 long skips, the latent as four maps.
Both draw binary images of 28x28, 16 (``_b16``) or 64 (``_b64``) at once. The loop to beat is the released codes' way:
784 passes over the whole image, with k x k kernels multiplied by a mask at each pass. One such pass is timed, and the
loop counts as 784 of them, nothing else.

``lstm``: embedding 128, LSTM 256. ``transformer``: 4 blocks of width 256. Both draw 64 texts of 20 of 10,000 words, one
latent each. The loop to beat gives every prefix to the decoder's network, which puts out the logits behind every word.

``speedup_*`` is the loop's time over ours, ``passes_*`` is our time in passes. Times are the shortest of several, ours
and the pass in turns. ``logit_difference_*`` is the largest difference between the logits while drawing and those of
one plain pass over the finished images, at all positions. The draws are checked as well: with the same noise, the plain
pass's logits must give the same pixels; so does, one after the other, the plain loop.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from plain_pixelcnn import PlainGatedPixelCNN, PlainPixelCNN
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from uncollapse.likelihoods import BernoulliLikelihood
from uncollapse_images.decoders import GatedPixelCNNDecoder, PixelCNNDecoder
from uncollapse_images.decoders.pixelcnn.decoder import PRESETS
from uncollapse_text.decoders import LSTMDecoder, TokenIds, TransformerDecoder
from uncollapse_text.decoders.lstm import LSTMTokens
from uncollapse_text.decoders.text_search import draw_from
from uncollapse_text.decoders.transformer import TransformerTokens

LATENT, IMAGE = 32, (1, 28, 28)
TEXTS, LENGTH, WORDS = 64, 20, 10_000
MAX_DIFFERENCE = 1e-5


@dataclass(frozen=True)
class Case:
    """Something to draw, in our way and in the plain one.

    Args:
        ours: Draws everything once.
        plain: One of the steps that the plain loop takes.
        steps: How many it takes.
        difference: Returns the largest difference between our logits and the plain ones.

    ``difference`` raises RuntimeError if the draws are not the same.
    """

    ours: Callable[[], object]
    plain: Callable[[], object]
    steps: int
    difference: Callable[[], float]


@dataclass(frozen=True)
class Measured:
    """What was found: seconds of ours, and of one step of the plain loop; the largest difference of logits."""

    ours: float
    plain: float
    steps: int
    difference: float

    @property
    def speedup(self) -> float:
        """Time of the plain loop over ours."""
        return self.steps * self.plain / self.ours

    @property
    def passes(self) -> float:
        """Our time in steps of the plain loop."""
        return self.ours / self.plain


# ------------------------------------------------------------------------------------------------------------- images


def gated() -> tuple[GatedPixelCNNDecoder, nn.Module]:
    """Return the decoder and its plain network."""
    torch.manual_seed(0)
    decoder = GatedPixelCNNDecoder((LATENT,), IMAGE, BernoulliLikelihood(IMAGE), (7, 5, 5, 5, 5, 5), 64)
    return decoder, PlainGatedPixelCNN(decoder.network)


def masked() -> tuple[PixelCNNDecoder, nn.Module]:
    """Return the decoder and its plain network."""
    torch.manual_seed(0)
    decoder = PixelCNNDecoder((LATENT,), IMAGE, BernoulliLikelihood(IMAGE), **PRESETS["large"])
    decoder.initialize(torch.randn(32, LATENT), torch.bernoulli(torch.rand(32, *IMAGE)))
    return decoder, PlainPixelCNN(decoder.network)


def image_case(build: Callable[[], tuple[GatedPixelCNNDecoder | PixelCNNDecoder, nn.Module]], batch: int) -> Case:
    """Return what it takes to draw ``batch`` images."""
    decoder, plain = build()
    z = torch.randn(batch, LATENT)
    conditioning = decoder.network.condition(z)
    positions = list(product(range(IMAGE[1]), range(IMAGE[2])))
    x = decoder(z).sample()

    def difference() -> float:
        torch.manual_seed(1)
        drawn = decoder(z).sample()
        torch.manual_seed(1)
        theirs = plain(drawn, conditioning)
        again = torch.stack([torch.bernoulli(theirs[:, :, r, c].sigmoid()) for r, c in positions], -1)
        if not torch.equal(again, drawn.flatten(2)):
            raise RuntimeError("the plain loop draws other pixels from the same noise")
        state, ours = decoder.network.incremental(conditioning), torch.empty_like(theirs)
        for r, c in positions:
            ours[:, :, r, c] = state.outputs(r, c)[:, :, 0, 0]
            state.put(r, c, drawn[:, :, r, c])
        return float((ours - theirs).abs().max())

    return Case(lambda: decoder(z).sample(), lambda: plain(x, conditioning), len(positions), difference)


# --------------------------------------------------------------------------------------------------------------- texts


def text_case(decoder: LSTMDecoder | TransformerDecoder) -> Case:
    """Return what it takes to draw texts, and to draw them by giving every prefix to the whole network."""
    z = torch.randn(TEXTS, LATENT)

    def rereading(network: LSTMTokens | TransformerTokens, latents: Tensor) -> Tensor:
        tokens = torch.full((TEXTS, 1), decoder.ids.start)
        for _ in range(LENGTH):
            logits = network.teacher_forced(tokens, latents)[:, -1]
            tokens = torch.cat([tokens, draw_from(1.0)(logits)[:, None]], 1)
        return tokens[:, 1:]

    def difference() -> float:
        # In double precision: among 10,000 words, rounding of single precision moves one draw in a hundred.
        double, latents = copy.deepcopy(decoder).double(), z.double()
        torch.manual_seed(1)
        drawn = double(latents).sample()
        torch.manual_seed(1)
        if not torch.equal(rereading(double.network, latents), drawn):
            raise RuntimeError("re-reading the prefixes draws other tokens from the same noise")
        tokens = torch.cat([torch.full((TEXTS, 1), decoder.ids.start), drawn[:, :-1]], 1)
        state = decoder.network.incremental(z)
        ours = torch.stack([state.step(tokens[:, t]) for t in range(LENGTH)], 1)
        return float((ours - decoder.network.teacher_forced(tokens, z)).abs().max())

    return Case(lambda: decoder(z).sample(), lambda: rereading(decoder.network, z), 1, difference)


def lstm() -> Case:
    torch.manual_seed(0)
    return text_case(LSTMDecoder((LATENT,), LENGTH, TokenIds(WORDS), 128, 256, init_range=0.2).eval())


def transformer() -> Case:
    torch.manual_seed(0)
    return text_case(TransformerDecoder((LATENT,), LENGTH, TokenIds(WORDS), 256, 4, 4).eval())


CASES: dict[str, Callable[[], Case]] = {
    "gated_b16": lambda: image_case(gated, 16),
    "gated_b64": lambda: image_case(gated, 64),
    "masked_b16": lambda: image_case(masked, 16),
    "masked_b64": lambda: image_case(masked, 64),
    "lstm": lstm,
    "transformer": transformer,
}
MIN_SPEEDUP = {"gated_b16": 150, "gated_b64": 250, "masked_b16": 150, "masked_b64": 250, "lstm": 8, "transformer": 8}
MAX_PASSES = {"gated_b64": 3.0, "masked_b64": 3.0}

# -------------------------------------------------------------------------------------------------------------- timing


def seconds(function: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


@torch.no_grad()
def measure(case: Case, repeats: int) -> Measured:
    """Return the shortest times of a case; the first call of each warms up."""
    difference = case.difference()
    case.plain()
    times = [(seconds(case.ours), seconds(case.plain)) for _ in range(repeats)]
    return Measured(min(o for o, _ in times), min(p for _, p in times), case.steps, difference)


@dataclass(frozen=True)
class Found:
    """A number of the JSON object, and what it is to be."""

    value: float
    sign: str
    aim: float

    @property
    def met(self) -> bool:
        """Whether the aim is met."""
        return self.value >= self.aim if self.sign == ">=" else self.value <= self.aim

    def __str__(self) -> str:
        return f"{self.value:.3g} ({self.sign} {self.aim:g}{'' if self.met else ', MISSED'})"


def findings(name: str, case: Measured) -> dict[str, Found]:
    """Return what is to be said of a case, by key."""
    found = {f"speedup_{name}": Found(case.speedup, ">=", MIN_SPEEDUP[name])}
    if name in MAX_PASSES:
        found[f"passes_{name}"] = Found(case.passes, "<=", MAX_PASSES[name])
    return {**found, f"logit_difference_{name}": Found(case.difference, "<=", MAX_DIFFERENCE)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one flat JSON object")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each time")
    parser.add_argument("--threads", type=int, help="torch's threads; its own choice by default")
    parser.add_argument("--only", choices=CASES, action="append", help="these cases instead of all")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    measured = {name: measure(CASES[name](), arguments.repeats) for name in arguments.only or CASES}
    found = {name: findings(name, case) for name, case in measured.items()}
    if arguments.json:
        print(json.dumps({key: float(f"{f.value:.4g}") for keys in found.values() for key, f in keys.items()}))
    else:
        table = Table(title=f"Drawing, threads: {torch.get_num_threads()}")
        for heading in ("", "ours", "one plain step", "steps", "speedup", "passes", "logits differ by"):
            table.add_column(heading, justify="left" if not heading else "right")
        for name, case in measured.items():
            times = f"{1e3 * case.ours:.0f} ms", f"{1e3 * case.plain:.0f} ms", str(case.steps)
            keys = (f"{what}_{name}" for what in ("speedup", "passes", "logit_difference"))
            table.add_row(name, *times, *(str(found[name].get(key, "")) for key in keys))
        Console(width=140).print(table)
    sys.exit(not all(f.met for keys in found.values() for f in keys.values()))


if __name__ == "__main__":
    main()
