"""Sections of the report on what a trained model of texts says: reconstructions, ways between texts, samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from uncollapse.capabilities import supports
from uncollapse.passes import AT_END, device_of
from uncollapse.plugins import ReportSection
from uncollapse.protocols import ReadsText, Split, mixed

from .texts import interpolate, reconstruct

__all__ = ["SECTIONS"]

SHOWN = 8
PRIOR_SAMPLES = 16
POINTS = 7


def reconstructed(built: Any, split: str, seed: int) -> str | None:
    """Return ``SHOWN`` texts of the split, each above what is decoded and what is drawn from its code."""
    data, model = built.data, built.model
    if not supports(data, ReadsText):
        return None
    originals = _examples(getattr(data, split), SHOWN).to(device_of(model))
    p_x = model.generate(model.infer(originals, AT_END).sample())
    rows = {"input": data.to_texts(originals)}
    searches = hasattr(p_x, "decode")
    if searches:
        rows["decoded"] = reconstruct(model, data, originals)
    rows["sample"] = data.to_texts(p_x.sample())
    lists = [_described(zip(rows, texts, strict=True)) for texts in zip(*rows.values(), strict=True)]
    caption = "" if searches else "<figcaption>The decoder can only be sampled from.</figcaption>"
    return "\n".join([*lists, caption])


def between(built: Any, split: str, seed: int) -> str | None:
    """Return texts on the straight line between the codes of the first and the last text of the split."""
    data, model = built.data, built.model
    if not supports(data, ReadsText):
        return None
    ends = _examples(getattr(data, split), 2).to(device_of(model))
    searches = hasattr(model.generate(model.p_z().sample((1,))), "decode")
    texts = interpolate(model, data, ends, POINTS, "greedy" if searches else "sample")
    how = "The likeliest token one after the other." if searches else "Samples of p(x|z)."
    return f"<ol>{_items(texts)}</ol>\n<figcaption>{how}</figcaption>"


def drawn(built: Any, split: str, seed: int) -> str | None:
    """Return ``PRIOR_SAMPLES`` draws of ``p(x|z)`` for latents drawn from the prior."""
    data, model = built.data, built.model
    if not supports(data, ReadsText):
        return None
    return f"<ul>{_items(data.to_texts(model.generate(model.p_z().sample((PRIOR_SAMPLES,))).sample()))}</ul>"


def _examples(split: Split, count: int) -> Tensor:
    """Return the tokens ``[count, T]`` of texts that are spread evenly over the split."""
    total = len(split)
    chosen = np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(np.int64))
    rows: list[Tensor] = []
    start = 0
    for batch in mixed(split).batches(256):
        inside = chosen[(chosen >= start) & (chosen < start + len(batch))] - start
        rows += list(batch.x[torch.from_numpy(inside)])
        start += len(batch)
    special = split.spec.special
    # Batches of texts differ in width.
    return pad_sequence(rows, batch_first=True, padding_value=0 if special is None else special.padding)


def _described(rows: Iterable[tuple[str, str]]) -> str:
    inside = "".join(f"<div><dt>{name}</dt><dd>{escape(text)}</dd></div>" for name, text in rows)
    return f"<dl>{inside}</dl>"


def _items(texts: Sequence[str]) -> str:
    return "".join(f"<li>{escape(text)}</li>" for text in texts)


SECTIONS = (
    ReportSection(
        "texts",
        "Reconstructed texts",
        "Below each input stands what the model makes of its code: decoded, the likeliest token one after the other "
        "for the mean of q(z|x); sample, drawn from p(x|z) with z from q(z|x). A collapsed model decodes every input "
        "to the same text.",
        reconstructed,
        """\
#texts dl { margin: 0 0 .75rem; padding-bottom: .75rem; border-bottom: 1px solid var(--line); }
#texts dl:last-of-type { margin-bottom: 0; padding-bottom: 0; border-bottom: 0; }
#texts dl div { display: grid; grid-template-columns: 4.5rem minmax(0, 1fr); gap: .75rem; }
#texts dt { color: var(--quiet); font-size: .875rem; }
#texts dd { margin: 0; overflow-wrap: anywhere; }
""",
    ),
    ReportSection(
        "texts-between",
        "Between two texts",
        "Points on the straight line between the codes of the first and the last input. Where the code is ignored, all "
        "of them read the same, or differ by chance alone.",
        between,
        "#texts-between ol { margin: 0; padding-left: 1.4rem; }\n"
        "#texts-between li { margin: .15rem 0; overflow-wrap: anywhere; }\n",
    ),
    ReportSection(
        "texts-prior",
        "Texts from the prior",
        "Draws from p(x|z) for codes drawn from the prior. They show how well the model knows the language, not "
        "whether it uses its code.",
        drawn,
        "#texts-prior ul { margin: 0; padding-left: 1.4rem; }\n"
        "#texts-prior li { margin: .15rem 0; overflow-wrap: anywhere; }\n",
    ),
)
"""What the distribution adds to a report."""
