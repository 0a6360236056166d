"""Models whose condition is known by construction, and the table of what the diagnosis makes of them.

``python plugins/diagnosis/tests/gallery.py`` prints the table of ``docs/diagnosis.md``.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from gallery_counted import images, texts
from gallery_linear import NEEDLES, Spoiled, clustered, correlated, digits, spatial, vectors
from uncollapse_diagnosis import Diagnosis, Settings, diagnose

SEEDS = (0, 1, 2)

VERDICTS = (
    "healthy",
    "partly collapsed",
    "collapsed",
    "decoder ignores z",
    "over-informative",
    "inference lagging",
    "not enough data",
)
"""In the order of the table. Where everything is examined, no model is called not collapsed."""


@dataclass(frozen=True)
class Case:
    """A constructed model.

    Args:
        name: What was built.
        condition: What its condition is, by construction.
        build: Returns model and data; draws from torch's random state.
        units: Units that are collapsed, where the condition is that some are.
        classes: Label classes of the data.
    """

    name: str
    condition: str
    build: Callable[[], tuple[Any, Any]]
    units: tuple[int, ...] = ()
    classes: int | None = None


STRONG = [3.0, 3.0, 4.0, 5.0]
IMAGES = [2.0, 2.0, 3.0, 3.0]
WORDS = [3.0, 3.0, 4.0, 4.0]
IGNORES = Spoiled(decoder="ignores")

CASES = (
    Case("vectors, 4 strong dimensions", "healthy", partial(vectors, STRONG)),
    Case("vectors, 8 dimensions of 0.4 nats", "healthy", partial(vectors, [1.1] * 8)),
    Case("vectors, posterior with full covariance", "healthy", correlated),
    Case("vectors, clustered codes and prior", "healthy", clustered),
    Case("images, every dimension rules rows", "healthy", partial(images, IMAGES)),
    Case("real digits, 12 principal components", "healthy", partial(digits, 12, None), classes=10),
    Case("spatial, 4 channels", "healthy", partial(spatial, STRONG)),
    Case("texts, 4 dimensions", "healthy", partial(texts, WORDS)),
    Case("vectors, 2 of 8 dimensions used", "partly collapsed", partial(vectors, [5.0, 5.0] + [0.0] * 6), tuple(range(2, 8))),
    Case("vectors, 1 of 4 dimensions dead", "partly collapsed", partial(vectors, [4.0, 4.0, 0.0, 4.0]), (2,)),
    Case("vectors, all used, too little in total", "partly collapsed", partial(vectors, [0.95] * 4)),
    Case("images, 2 of 4 dimensions used", "partly collapsed", partial(images, [3.0, 0.0, 3.0, 0.0]), (1, 3)),
    Case("real digits, noise above the 7th eigenvalue", "partly collapsed", partial(digits, 12, 6), tuple(range(6, 12)), 10),
    Case("spatial, 1 of 4 channels dead", "partly collapsed", partial(spatial, [3.0, 3.0, 3.0, 0.0]), (3,)),
    Case("texts, 2 of 4 dimensions used", "partly collapsed", partial(texts, [4.0, 4.0, 0.0, 0.0]), (2, 3)),
    Case("vectors, nothing to code", "collapsed", partial(vectors, [0.0] * 4)),
    Case("vectors, 0.02 nats a dimension", "collapsed", partial(vectors, [0.2] * 4)),
    Case("vectors, one posterior for all, off the prior", "collapsed", partial(vectors, [0.3] * 4, Spoiled("constant", "ignores"))),
    Case("images, nothing to code", "collapsed", partial(images, [0.0] * 4)),
    Case("real digits, noise above all eigenvalues", "collapsed", partial(digits, 12, 0), classes=10),
    Case("spatial, nothing to code", "collapsed", partial(spatial, [0.0] * 4)),
    Case("texts, 0.02 nats a dimension", "collapsed", partial(texts, [0.15] * 4)),
    Case("vectors, decoder without z", "decoder ignores z", partial(vectors, STRONG, IGNORES)),
    Case("vectors, decoder reads z and says nothing of x", "decoder ignores z", partial(vectors, STRONG, Spoiled(decoder="unrelated"))),
    Case("images, decoder without z", "decoder ignores z", partial(images, IMAGES, IGNORES)),
    Case("spatial, decoder without z", "decoder ignores z", partial(spatial, STRONG, IGNORES)),
    Case("texts, decoder without z", "decoder ignores z", partial(texts, WORDS, IGNORES)),
    Case("vectors, needles 20 times as far apart", "over-informative", partial(vectors, STRONG, NEEDLES)),
    Case("vectors, codes 5 standard deviations off", "over-informative", partial(vectors, STRONG, Spoiled(shift=5.0))),
    Case("images, needles 20 times as far apart", "over-informative", partial(images, IMAGES, NEEDLES)),
    Case("spatial, needles 20 times as far apart", "over-informative", partial(spatial, STRONG, NEEDLES)),
    Case("texts, needles 20 times as far apart", "over-informative", partial(texts, WORDS, NEEDLES)),
    Case("vectors, encoder left at the prior", "inference lagging", partial(vectors, STRONG, Spoiled("prior"))),
    Case("vectors, every dimension coded by its neighbor", "inference lagging", partial(vectors, STRONG, Spoiled("rolled"))),
    Case("images, a tenth of the mean", "inference lagging", partial(images, IMAGES, Spoiled("shrunk"))),
    Case("spatial, encoder left at the prior", "inference lagging", partial(spatial, STRONG, Spoiled("prior"))),
    Case("texts, encoder left at the prior", "inference lagging", partial(texts, WORDS, Spoiled("prior"))),
    Case("vectors, 20 examples", "not enough data", partial(vectors, STRONG, count=20)),
    Case("images, 30 examples", "not enough data", partial(images, IMAGES, count=30)),
    Case("spatial, 12 examples", "not enough data", partial(spatial, STRONG, count=12)),
    Case("texts, 40 examples", "not enough data", partial(texts, WORDS, count=40)),
)  # fmt: skip

SETTINGS = Settings(decoder_examples=128, refined_examples=48, passes_at_once=4096)


def examine(case: Case, seed: int) -> Diagnosis:
    """Build a case and diagnose it."""
    torch.manual_seed(seed)
    model, data = case.build()
    return diagnose(model, data, classes=case.classes, settings=SETTINGS)


def confusion(found: Counter[tuple[str, str]]) -> str:
    """Return the confusion table in Markdown: rows by construction, columns by diagnosis."""
    rows = ["| built | " + " | ".join(VERDICTS) + " |", "|---|" + "---:|" * len(VERDICTS)]
    rows += [f"| {built} | " + " | ".join(str(found[built, c]) for c in VERDICTS) + " |" for built in VERDICTS]
    return "\n".join(rows)


def main() -> int:
    """Print the table and every case that was not classified right."""
    found: Counter[tuple[str, str]] = Counter()
    for case in CASES:
        for seed in SEEDS:
            diagnosis = examine(case, seed)
            found[case.condition, diagnosis.verdict] += 1
            if diagnosis.verdict != case.condition:
                print(f"{case.name}, seed {seed}: {diagnosis.sentence}", file=sys.stderr)
    print(confusion(found))
    return int(any(built != seen for built, seen in found))


if __name__ == "__main__":
    sys.exit(main())
