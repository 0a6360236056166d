"""What a trained model of texts says: decoded sentences, reconstructions, the way between two sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributions import Distribution
from uncollapse.errors import ConfigError
from uncollapse.model import LatentVariableModel
from uncollapse.passes import AT_END, device_of, measuring, posterior_mean
from uncollapse.protocols import ReadsText

__all__ = ["Decoding", "decode", "from_prior", "interpolate", "means", "reconstruct"]

Decoding = Literal["greedy", "beam", "sample"]
"""The likeliest token each time, the likeliest text that a beam search finds, or a draw."""

_DRAWS_FOR_A_MEAN = 64


def decode(p_x: Distribution, method: Decoding = "greedy", *, beam_size: int = 5, temperature: float = 1.0) -> Tensor:
    """Return tokens of ``p(x|z)``, ``[..., T]``.

    Args:
        p_x: Distribution of texts, batch ``[...]``.
        method: ``greedy``, ``beam`` or ``sample``.
        beam_size: Texts that ``beam`` keeps at a time.
        temperature: Divides the logits of ``sample``; below 1 likely tokens become likelier.

    Raises:
        ConfigError: The distribution can only be sampled from.
    """
    own: Any = getattr(p_x, "decode", None)
    if own is not None:
        options: dict[str, Any] = {"beam": {"beam_size": beam_size}, "sample": {"temperature": temperature}}
        tokens: Tensor = own(method=method, **options.get(method, {}))
        return tokens
    if method != "sample" or temperature != 1.0:
        raise ConfigError(
            f"the decoder's {type(p_x).__name__} has no method decode, so it cannot be decoded by {method!r} at "
            f"temperature {temperature:g}; use 'sample' at temperature 1"
        )
    return p_x.sample()


def means(model: LatentVariableModel, data: ReadsText, texts: Sequence[str] | Tensor) -> Tensor:
    """Return the posterior's mean for every text, ``[N, *D]``.

    Args:
        model: The trained model.
        data: Its data source.
        texts: ``N`` texts, or their tokens ``[N, T]``.

    Raises:
        DataError: A text has no token, or more than the data's longest may have.
    """
    with measuring(model):
        tokens = texts if isinstance(texts, Tensor) else data.to_tokens(texts)
        q = model.infer(tokens.to(device_of(model)), AT_END)
        return posterior_mean(q, _DRAWS_FOR_A_MEAN)[0].to(torch.get_default_dtype())


def reconstruct(
    model: LatentVariableModel,
    data: ReadsText,
    texts: Sequence[str] | Tensor,
    method: Decoding = "greedy",
    **options: Any,
) -> list[str]:
    """Return what the decoder makes of the posterior mean of every text, or of tokens ``[N, T]``.

    ``options`` are those of :func:`decode`.

    Raises:
        DataError: A text has no token, or more than the data's longest may have.
    """
    z = means(model, data, texts)
    with measuring(model):
        return data.to_texts(decode(model.generate(z), method, **options))


def from_prior(
    model: LatentVariableModel, count: int, method: Decoding = "greedy", max_batch: int = 256, **options: Any
) -> Tensor:
    """Return the tokens of ``count`` texts for latents drawn from the prior, ``[count, T]``.

    Read off greedily, they show what the model has put into its code: Bowman et al. (2016),
    https://arxiv.org/abs/1511.06349; a collapsed one repeats one text.

    Args:
        model: The trained model.
        count: Number of texts.
        method: How each is decoded.
        max_batch: Latents that go through the decoder at once.
        options: Those of :func:`decode`.
    """
    with measuring(model):
        z = model.p_z().sample(torch.Size((count,)))
        return torch.cat([decode(model.generate(some), method, **options) for some in z.split(max_batch)])


def interpolate(
    model: LatentVariableModel,
    data: ReadsText,
    ends: Sequence[str] | Tensor,
    steps: int = 5,
    method: Decoding = "greedy",
    **options: Any,
) -> list[str]:
    """Return texts on the straight line between two texts' posterior means: Bowman et al., Generating Sentences from a
    Continuous Space (2016), on homotopies, https://arxiv.org/abs/1511.06349.

    Args:
        model: The trained model.
        data: Its data source.
        ends: Where the line begins and where it ends: two texts, or their tokens ``[2, T]``.
        steps: Points on the line, both ends among them, at least 2.
        method: How each point is decoded.
        options: Those of :func:`decode`.

    Raises:
        ConfigError: ``steps`` is below 2.
        DataError: A text has no token, or more than the data's longest may have.
    """
    if steps < 2:
        raise ConfigError(f"steps: expected at least 2, the two ends, found {steps}")
    begin, end = means(model, data, ends)
    share = torch.linspace(0, 1, steps, device=begin.device).reshape(-1, *[1] * begin.dim())
    with measuring(model):
        return data.to_texts(decode(model.generate(torch.lerp(begin, end, share)), method, **options))
