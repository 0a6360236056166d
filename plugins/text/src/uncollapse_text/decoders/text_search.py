"""Texts from an autoregressive network, token by token: draws, the likeliest token each time, and beam search."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad
from uncollapse.protocols import SpecialTokens

__all__ = ["IncrementalTokens", "Told", "beam_search", "draw_from", "likeliest", "one_by_one"]

Told = Callable[[float], object]


class IncrementalTokens(Protocol):
    """``N`` texts that are written token by token, and what the network has computed of them so far."""

    def step(self, tokens: Tensor) -> Tensor:
        """Append ``tokens [N]``, the first of which is the start token, and return the next one's logits ``[N, V]``."""
        ...

    def reorder(self, rows: Tensor) -> None:
        """Go on with the texts ``rows [N]`` of the present ones; a text may be taken several times, or not at all."""
        ...


def draw_from(temperature: float) -> Callable[[Tensor], Tensor]:
    """Return what draws one token ``[N]`` from ``softmax(logits / temperature)`` for ``logits [N, V]``."""

    def choose(logits: Tensor) -> Tensor:
        # One number for each text and the inverse of the cumulative distribution, first over blocks of tokens and then
        # in one block. For 64 texts and 10,000 words that takes 0.6 ms of a CPU, 1.0 without blocks; torch.multinomial,
        # which draws a number for every word, takes 14, and the logits of an LSTM of width 256 take 5.
        chances = (logits / temperature).softmax(-1)
        size = math.isqrt(chances.shape[-1])
        short = -chances.shape[-1] % size
        blocks = (pad(chances, (0, short)) if short else chances).unflatten(-1, (-1, size))
        sums = blocks.sum(-1)
        block, rest = _reached(sums, torch.rand_like(sums[:, :1]) * sums.sum(-1, keepdim=True))
        within = blocks.gather(1, block[..., None].expand(-1, -1, size)).squeeze(1)
        return (block * size + _reached(within, rest)[0]).squeeze(1)

    return choose


def _reached(parts: Tensor, height: Tensor) -> tuple[Tensor, Tensor]:
    """Return which of the parts ``[N, M]``, laid end to end, lies at ``height [N, 1]``, and how far into it that is.

    Rounding may lift the height to the end of all, beyond the last part; parts of no length are never hit.
    """
    ends = parts.cumsum(-1)
    whole = ends[:, -1:]
    height = torch.minimum(height, torch.nextafter(whole, torch.zeros_like(whole)))
    index = torch.searchsorted(ends, height, right=True)
    return index, (height - (ends - parts).gather(1, index)).clamp(min=0)


def likeliest(logits: Tensor) -> Tensor:
    """Return the likeliest token ``[N]`` for ``logits [N, V]``."""
    return logits.argmax(-1)


def one_by_one(
    state: IncrementalTokens,
    choose: Callable[[Tensor], Tensor],
    first: Tensor,
    length: int,
    special: SpecialTokens | None,
    progress: Told | None = None,
) -> Tensor:
    """Return texts ``[N, length]`` whose tokens are chosen one after the other, padding behind the end.

    Args:
        state: A fresh state.
        choose: Gives a token ``[N]`` for logits ``[N, V]``.
        first: Start tokens ``[N]``.
        length: Tokens of a text at most, the end included; a text that has not ended by then is cut off.
        special: End and padding; None where every text has ``length`` tokens.
        progress: Called after each token with the share of the tokens that are done, up to 1.
    """
    texts = first.new_full((len(first), length), special.padding if special else 0)
    ended = torch.zeros_like(first, dtype=torch.bool)
    token = first
    for t in range(length):
        token = choose(_exact(state.step(token)))
        if special is not None:
            token = token.masked_fill(ended, special.padding)
            ended |= token == special.end
        texts[:, t] = token
        if _told(progress, t, length, bool(ended.all())):
            break
    return texts


def beam_search(
    state: IncrementalTokens,
    beams: int,
    first: Tensor,
    length: int,
    special: SpecialTokens | None,
    progress: Told | None = None,
) -> Tensor:
    """Return the likeliest texts ``[N, length]`` that a beam of ``beams`` hypotheses finds: Graves, Sequence
    Transduction with Recurrent Neural Networks (2012), section 2.5, https://arxiv.org/abs/1211.3711.

    Scores are log probabilities of whole texts, not divided by their length. A hypothesis that has ended keeps its
    score and its place in the beam as long as it is among the best; the search stops when the best one has ended,
    because the others can only lose. A beam as wide as there are texts finds the likeliest of all.

    Args:
        state: A fresh state of ``N * beams`` texts; row ``n * beams + k`` is hypothesis ``k`` of text ``n``.
        beams: Hypotheses for each text.
        first: Start tokens ``[N * beams]``.
        length: Tokens of a text at most, the end included; a hypothesis that has not ended by then is cut off.
        special: End and padding; None where every text has ``length`` tokens.
        progress: Called after each token with the share of the tokens that are done, up to 1.
    """
    count = len(first) // beams
    offset = beams * torch.arange(count, device=first.device)[:, None]
    texts = first.new_full((count, beams, length), special.padding if special else 0)
    ended = torch.zeros(count, beams, dtype=torch.bool, device=first.device)
    scores: Tensor | None = None
    token = first
    for t in range(length):
        gained = _exact(state.step(token)).log_softmax(-1).unflatten(0, (count, beams))
        if special is not None:
            gained.masked_fill_(ended[..., None], -torch.inf)
            gained[..., special.padding].masked_fill_(ended, 0.0)
        if scores is None:
            # All hypotheses are the empty text still; one of them stands for all.
            scores = torch.full_like(gained[..., 0], -torch.inf)
            scores[:, 0] = 0.0
        scores, best = (scores[..., None] + gained).flatten(1).topk(beams)
        origin = best // gained.shape[-1]
        chosen = best % gained.shape[-1]
        texts = texts.gather(1, origin[..., None].expand_as(texts))
        texts[..., t] = chosen
        if special is not None:
            ended = ended.gather(1, origin) | (chosen == special.end)
        state.reorder((origin + offset).flatten())
        token = chosen.flatten()
        if _told(progress, t, length, bool(ended[:, 0].all())):
            break
    return texts[:, 0]


def _exact(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def _told(progress: Told | None, t: int, length: int, stop: bool) -> bool:
    if progress is not None:
        progress(1.0 if stop else (t + 1) / length)
    return stop
