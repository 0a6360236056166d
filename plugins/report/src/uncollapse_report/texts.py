"""What a trained model of texts says: reconstructions, samples, the way between two examples."""

from __future__ import annotations

import torch
from torch import Tensor
from uncollapse.estimators import AT_END
from uncollapse.model import LatentVariableModel
from uncollapse.protocols import ReadsText
from uncollapse_text.texts import interpolate, reconstruct

from .records import Texts

__all__ = ["collect_texts"]

RECONSTRUCTIONS = 8
PRIOR_SAMPLES = 16
POINTS = 7


def collect_texts(model: LatentVariableModel, data: ReadsText, x: Tensor) -> Texts:
    """Ask a trained model, in evaluation mode and without gradients, for everything that the page shows of it.

    Args:
        model: The trained model.
        data: Its source.
        x: Tokens of examples ``[N, T]``; those that are shown are spread evenly over them.
    """
    examples = torch.linspace(0, len(x) - 1, min(RECONSTRUCTIONS, len(x))).round().long().to(x.device)
    originals = x[examples]
    z = torch.cat([model.infer(originals, AT_END).sample(), model.p_z().sample((PRIOR_SAMPLES,))])
    p_x = model.generate(z)
    drawn = data.to_texts(p_x.sample())
    searches = hasattr(p_x, "decode")
    return Texts(
        originals=tuple(data.to_texts(originals)),
        greedy=tuple(reconstruct(model, data, originals)) if searches else None,
        samples=tuple(drawn[: len(originals)]),
        prior=tuple(drawn[len(originals) :]),
        between=tuple(interpolate(model, data, originals[[0, -1]], POINTS, "greedy" if searches else "sample")),
    )
