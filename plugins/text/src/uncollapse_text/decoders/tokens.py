"""What decoders of texts share: ids beside the data's own, word dropout, and the layer that puts out logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from uncollapse.config import BuildContext
from uncollapse.errors import ShapeError
from uncollapse.protocols import SpecialTokens

__all__ = ["TokenHead", "TokenIds", "WordDropout", "token_ids"]


@dataclass(frozen=True, slots=True)
class TokenIds:
    """The ids that a decoder of texts needs.

    Data without special tokens have neither an end nor padding, and all their tokens are data; the start and the
    unknown token then are two more rows of the embedding, behind those of the data.

    Args:
        size: Ids of the data, ``V``.
        special: Which of them are special; None where none is.
    """

    size: int
    special: SpecialTokens | None = None

    @property
    def rows(self) -> int:
        """Rows of an embedding."""
        return self.size if self.special else self.size + 2

    @property
    def start(self) -> int:
        """What a decoder is given before the first token."""
        return self.special.start if self.special else self.size

    @property
    def unknown(self) -> int:
        """What word dropout puts in the place of a token."""
        return self.special.unknown if self.special else self.size + 1

    @property
    def impossible(self) -> tuple[int, ...]:
        """Ids that are never the next token of a text."""
        return (self.special.padding, self.special.start) if self.special else ()


def token_ids(context: BuildContext, place: str) -> TokenIds:
    """Return the ids of the context's data.

    Raises:
        ShapeError: The data are no texts; the message names ``place``, the part that was to be built.
    """
    data = context.data
    if data.support != "tokens" or len(data.event_shape) != 1 or not data.vocabulary_size:
        raise ShapeError(
            f"{place}: it reads texts, data of shape (T,) whose support is tokens with a vocabulary_size; found shape "
            f"{data.event_shape}, support {data.support!r}; use data of texts, or another {place.rpartition('.')[2]}"
        )
    return TokenIds(data.vocabulary_size, data.special)


class WordDropout(nn.Module):
    """Replaces tokens by the unknown one, in training only: Bowman et al., Generating Sentences from a Continuous
    Space (2016), section 3.1, https://arxiv.org/abs/1511.06349. The decoder is to learn more of the latent that way.

    Args:
        ids: The unknown token, and the start token, which stays.
        rate: Probability that a token is replaced.
    """

    def __init__(self, ids: TokenIds, rate: float) -> None:
        super().__init__()
        self.ids = ids
        self.rate = rate

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens ``[B, T]``, some of them replaced while the module trains."""
        if not self.training or self.rate == 0:
            return tokens
        replaced = torch.rand(tokens.shape, device=tokens.device) < self.rate
        return tokens.masked_fill(replaced & (tokens != self.ids.start), self.ids.unknown)


class TokenHead(nn.Module):
    """Logits of the next token, a linear map without bias; ``-inf`` for tokens that no text contains.

    The released codes of the lagging encoder and of DU-VAE leave padding and start in their softmax, so that some
    probability, little after training, lies on what is no text. Here the probabilities of all texts sum to one.

    Args:
        features: Width of the input.
        ids: Size, and which tokens are impossible.
        tied: Have no weights, but take those of the embedding: Press and Wolf, Using the Output Embedding to Improve
            Language Models (2017), https://arxiv.org/abs/1608.05859.
    """

    blocked: Tensor | None

    def __init__(self, features: int, ids: TokenIds, tied: bool = False) -> None:
        super().__init__()
        self.size = ids.size
        self.weight: nn.Parameter | None = None
        if not tied:
            # Stored [features, V]: on a CPU the product with few rows, as in decoding, takes a seventh less time so.
            self.weight = nn.Parameter(nn.Linear(features, ids.size, bias=False).weight.detach().t().contiguous())
        blocked = None
        if ids.impossible:
            blocked = torch.zeros(ids.size)
            blocked[list(ids.impossible)] = -torch.inf
        # Added as a bias, which costs nothing beside the product; filling in afterwards copies all logits twice.
        self.register_buffer("blocked", blocked, persistent=False)

    def forward(self, h: Tensor, table: Tensor | None = None) -> Tensor:
        """Return logits ``[..., V]`` of ``h [..., features]``.

        Args:
            h: Features.
            table: The embedding's weights ``[rows, features]``, where they are tied.
        """
        weight = cast(Tensor, self.weight).t() if table is None else table[: self.size]
        return nn.functional.linear(h, weight, self.blocked)
