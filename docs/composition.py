"""Which parts go together: tries every pair of installed parts and writes the page.

    python docs/composition.py                 # tries every pair; writes docs/composition.json and docs/composition.md
    python docs/composition.py --choices 1000  # tries a thousand choices that hold no refused pair, drawn at random

A *choice* is one part of each kind: a method (an objective, or a regularizer beside the ELBO), a decoder, a prior and a
posterior. Every pair of options is tried in a choice whose other two parts suit both. ``tests/test_composition.py``
makes sure that pairs said to go together do so in larger choices, and that the others are refused with the reason.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from uncollapse.config import ComponentConfig
from uncollapse.plugins import registry
from uncollapse.protocols import DataSpec, SpecialTokens
from uncollapse_kit import Composition, Parts, compose

HERE = Path(__file__).parent
KINDS = ("method", "decoder", "prior", "posterior")
Choice = tuple[str, str, str, str]
Pair = tuple[str, str]

BINARY = DataSpec((1, 8, 8), "binary", classes=3)
COLOUR = DataSpec((3, 8, 8), "bytes", classes=3)
TEXT = DataSpec((7,), "tokens", classes=3, vocabulary_size=11, special=SpecialTokens())

# What a part is tried with where its defaults are larger than needed, or do not suit 8x8 images and four latents.
SMALL: dict[str, dict[str, Any]] = {
    # The released limit: without one the steps diverge where the likelihood of bytes meets a prior of high precision.
    "objective:baselines.semi_amortized": {"clip": 5.0},
    # Made-up texts have nearly the same features, and what is promised is promised but for eps.
    "moment_transform:baselines.batch_norm": {"eps": 1e-12},
    "moment_transform:duvae.batch_norm": {"eps": 1e-12},
    "encoder:densenet": {"growth": [4, 4, 4], "steps": [1, 1, 1], "features": 8},
    "encoder:lstm": {"embedding": 6, "hidden": 8},
    "encoder:mlp": {"hidden": [8]},
    "posterior:gaussian": {"latent_dim": 4},
    "posterior:iaf": {"latent_dim": 4, "hidden": 8},
    "posterior:mim.gaussian_mixture": {"latent_dim": 4, "components": 2},
    "posterior:two_level": {"bottom_dim": 2, "top_dim": 2, "hidden": 8},
    "prior:autoregressive": {"hidden": 8},
    "prior:autoregressive_conv": {"hidden": 8},
    "prior:gaussian_mixture": {"components": 3},
    "prior:two_level": {"hidden": [8]},
    "prior:vampprior": {"components": 4},
    "decoder:conv": {},
    "decoder:gated_pixelcnn": {"kernels": [3, 3], "channels": 4},
    "decoder:hvae_conv": {"hidden": 8, "channels": [4]},
    "decoder:hvae_pixelcnn": {"channels": 4, "kernels": [3, 3]},
    "decoder:lstm": {"embedding": 6, "hidden": 8},
    "decoder:mlp": {"hidden": [8]},
    "decoder:pixelcnn": {"kernels": [3, 3], "channels": 4},
    "decoder:pixelcnnpp": {"levels": 2, "blocks": 1, "filters": 4, "maps": 2},
    "decoder:transformer": {"width": 8, "heads": 2, "layers": 1},
}
# The data that a decoder is tried on, where they are not binary images.
DATA = {"lstm": TEXT, "transformer": TEXT, "pixelcnnpp": COLOUR}
# Options that stand for a part with certain fields.
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "posterior": {"gaussian, spatial": {"type": "gaussian", "latent_dim": [4, 2, 2]}},
}
# What an option is tried with, where the plain parts do not suit it.
COMPANIONS: dict[str, dict[str, str]] = {
    "prior:two_level": {"posterior": "two_level"},
    "prior:autoregressive_conv": {"posterior": "gaussian, spatial"},
    "posterior:gaussian, spatial": {},
}
PLAIN = {"method": "elbo", "decoder": "mlp", "prior": "standard_normal", "posterior": "gaussian"}


@cache
def options() -> dict[str, dict[str, dict[str, Any]]]:
    """Return, for every kind, the options by name: fields of the part, its ``type`` among them."""
    found: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in KINDS}
    for kind, where in (("objective", "method"), ("regularizer", "method"), *((k, k) for k in KINDS[1:])):
        for name in registry().names(kind):
            found[where][name] = {"type": name, **SMALL.get(f"{kind}:{name}", {})}
    for name in registry().names("moment_transform"):
        transform = {"type": name, **SMALL.get(f"moment_transform:{name}", {})}
        found["posterior"][f"gaussian, {name}"] = {"type": "gaussian", "latent_dim": 4, "moments": [transform]}
    for kind, variants in VARIANTS.items():
        found[kind].update(variants)
    return found


def config(kind: str, fields: Mapping[str, Any]) -> ComponentConfig:
    """Return the config of a part."""
    found = registry().find(kind, fields["type"])
    assert found is not None, f"{kind} {fields['type']} is not installed"
    return found.model_validate(dict(fields))


def parts_of(choice: Choice) -> Parts:
    """Return the parts of a choice; the encoder follows from data and posterior."""
    method, decoder, prior, posterior = (options()[kind][name] for kind, name in zip(KINDS, choice, strict=True))
    data = DATA.get(decoder["type"], BINARY)
    spatial = isinstance(posterior.get("latent_dim"), list)
    encoder = "lstm" if data is TEXT else "densenet" if spatial else "mlp"
    is_objective = method["type"] in registry().names("objective")
    return Parts(
        data,
        encoder=config("encoder", {"type": encoder, **SMALL[f"encoder:{encoder}"]}),
        posterior=config("posterior", posterior),
        prior=config("prior", prior),
        decoder=config("decoder", decoder),
        objective=config("objective", method if is_objective else {"type": "elbo"}),
        regularizers=() if is_objective else (config("regularizer", method),),
    )


def keys(choice: Choice) -> list[str]:
    """Return the choice's options as ``kind:name``."""
    return [f"{kind}:{name}" for kind, name in zip(KINDS, choice, strict=True)]


def pairs(choice: Choice) -> set[Pair]:
    """Return every pair of options of a choice."""
    return set(itertools.combinations(keys(choice), 2))


def every_pair() -> Iterator[Pair]:
    """Yield all pairs of options of two kinds."""
    for one, other in itertools.combinations(KINDS, 2):
        for a, b in itertools.product(options()[one], options()[other]):
            yield f"{one}:{a}", f"{other}:{b}"


def around(pair: Pair) -> Choice:
    """Return the choice that a pair is tried in: both options, what suits them, and plain parts."""
    given = dict(key.split(":", 1) for key in pair)
    suited: dict[str, str] = {}
    for key in pair:
        suited |= COMPANIONS.get(key, {})
    return tuple({**PLAIN, **suited, **given}[kind] for kind in KINDS)  # type: ignore[return-value]


def choices(refused: Mapping[Pair, str]) -> list[Choice]:
    """Return choices without a refused pair that between them hold every pair that is not refused.

    Greedy: each choice begins with a pair that none holds yet, and takes for the other kinds what adds most new pairs.
    """
    left = dict.fromkeys(pair for pair in every_pair() if pair not in refused)
    found: list[Choice] = []
    while left:
        first = next(iter(left))
        given = dict(key.split(":", 1) for key in first)
        free = [kind for kind in KINDS if kind not in given]
        best: tuple[int, Choice] | None = None
        for filling in itertools.product(*(options()[kind] for kind in free)):
            whole = {**given, **dict(zip(free, filling, strict=True))}
            choice: Choice = tuple(whole[kind] for kind in KINDS)  # type: ignore[assignment]
            held = pairs(choice)
            gain = len(held & left.keys())
            if held.isdisjoint(refused) and (best is None or gain > best[0]):
                best = gain, choice
        if best is None:
            raise ValueError(f"{' and '.join(first)} go together only in a choice that holds a refused pair")
        found.append(best[1])
        for pair in pairs(best[1]):
            left.pop(pair, None)
    return found


def known() -> dict[Pair, str]:
    """Return the pairs that are refused, with the reasons, as the committed file says."""
    listed = json.loads((HERE / "composition.json").read_text(encoding="utf-8"))
    return {(row["one"], row["other"]): row["reason"] for row in listed}


def try_pair(pair: Pair) -> Composition:
    """Try a pair among parts that suit it."""
    torch.manual_seed(0)
    return compose(parts_of(around(pair)))


def page(refused: Mapping[Pair, str]) -> str:
    """Return the page: a table for each two kinds, and the reasons of what is refused."""
    reasons = list(dict.fromkeys(refused.values()))
    lines = [
        "# What goes with what",
        "",
        "Written by `python docs/composition.py`; `make test` checks it. A dot: the two parts were validated, trained,",
        "measured, sampled from, saved and loaded together, and the posteriors that the method judges keep what the",
        "transforms of their moments promise (a committed rate, a floor, a length). A number: the pipeline is refused",
        "before training, with the message below. Methods are objectives, and regularizers beside the ELBO.",
    ]
    for one, other in itertools.combinations(KINDS, 2):
        columns = list(options()[other])
        lines += ["", f"## {one.capitalize()} and {other}", "", f"| | {' | '.join(f'`{c}`' for c in columns)} |"]
        lines.append(f"|---|{':-:|' * len(columns)}")
        for row in options()[one]:
            cells = (refused.get((f"{one}:{row}", f"{other}:{c}")) for c in columns)
            lines.append(f"| `{row}` | {' | '.join('·' if r is None else str(reasons.index(r) + 1) for r in cells)} |")
    lines += ["", "## Messages", ""]
    lines += [f"{number}. {reason}" for number, reason in enumerate(reasons, 1)]
    return "\n".join(lines) + "\n"


def try_choices(count: int) -> None:
    """Try ``count`` different choices without a refused pair, drawn at random; print those that fail."""
    refused = known()
    whole = itertools.product(*(options()[kind] for kind in KINDS))
    open_to_all = [choice for choice in whole if pairs(choice).isdisjoint(refused)]
    tried = random.Random(0).sample(open_to_all, min(count, len(open_to_all)))
    works = 0
    for choice in tried:
        torch.manual_seed(0)
        try:
            found = compose(parts_of(choice))
        except Exception as error:
            # One that breaks after validation is what this is to find; the others are still to be tried.
            print(f"{' + '.join(keys(choice))}: {type(error).__name__}: {error}", flush=True)
            continue
        works += found.works
        if not found.works:
            print(f"{' + '.join(keys(choice))}: {found.reason.splitlines()[0]}", flush=True)
    print(f"{len(tried)} of {len(open_to_all)} choices were tried; {works} work")


def try_every_pair() -> None:
    """Try every pair and write the page."""
    refused: dict[Pair, str] = {}
    for pair in every_pair():
        found = try_pair(pair)
        if not found.works:
            refused[pair] = found.reason.splitlines()[0]
            print(f"{' + '.join(pair)}: {refused[pair]}", flush=True)
    rows = [{"one": one, "other": other, "reason": reason} for (one, other), reason in refused.items()]
    (HERE / "composition.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (HERE / "composition.md").write_text(page(refused), encoding="utf-8")
    count = len(list(every_pair()))
    print(f"{len(refused)} of {count} pairs are refused; {len(choices(refused))} choices hold the others")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--choices", type=int, metavar="N", help="try N choices of four parts, instead of every pair")
    wanted = parser.parse_args().choices
    torch.set_num_threads(1)  # threads of small operations only wait for one another
    try_every_pair() if wanted is None else try_choices(wanted)
