"""Transformer decoder of texts."""

from __future__ import annotations

import math
from typing import Literal, cast

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Size, Tensor, nn
from uncollapse.config import BuildContext, DecoderConfig
from uncollapse.errors import ShapeError
from uncollapse.protocols import Support

from .attention import Block, sinusoids
from .autoregressive_text import AutoregressiveText
from .tokens import TokenHead, TokenIds, WordDropout, token_ids

__all__ = ["LatentUse", "Positions", "TransformerDecoder", "TransformerDecoderConfig", "TransformerTokens"]

LatentUse = Literal["memory", "embedding", "both"]
Positions = Literal["learned", "sinusoidal"]

INITIAL_STD = 0.02
"""Standard deviation of initial weights: Radford et al., GPT (2018), section 4.1."""


class TransformerTokens(nn.Module):
    """Causal self-attention over tokens that knows a latent: the network of :class:`TransformerDecoder`, which explains
    the arguments.
    """

    positions: Tensor

    def __init__(
        self,
        latent_size: int,
        length: int,
        ids: TokenIds,
        width: int,
        heads: int,
        layers: int,
        hidden: int,
        dropout: float,
        word_dropout: float,
        latent: LatentUse,
        positions: Positions,
        tied: bool,
    ) -> None:
        super().__init__()
        self.vocabulary_size = ids.size
        self.word_dropout = WordDropout(ids, word_dropout)
        self.embedding = nn.Embedding(ids.rows, width)
        self.scale = 1.0
        if positions == "learned":
            self.positions = nn.Parameter(torch.empty(length, width))
        else:
            self.register_buffer("positions", sinusoids(length, width), persistent=False)
            # Vaswani et al., section 3.4: beside sines, which have the size of one, words would be lost.
            self.scale = math.sqrt(width)
        self.to_embedding = None if latent == "memory" else nn.Linear(latent_size, width, bias=False)
        self.to_memory = None if latent == "embedding" else nn.Linear(latent_size, layers * width, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.stack = nn.ModuleList(Block(width, heads, hidden, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.tied = tied
        self.head = TokenHead(width, ids, tied)
        self._initialize()

    @property
    def blocks(self) -> list[Block]:
        """The blocks, from the tokens to the logits."""
        return cast(list[Block], list(self.stack))

    @torch.no_grad()
    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                module.weight.normal_(0, INITIAL_STD)
            if isinstance(module, nn.Linear) and module.bias is not None:
                module.bias.zero_()
        for own in (self.positions, self.head.weight):
            if isinstance(own, nn.Parameter):
                own.normal_(0, INITIAL_STD)
        for block in self.blocks:
            # The stream is a sum of two terms for each block; its scale is not to grow with their number.
            for last in (block.attended, block.narrow):
                last.weight.div_(math.sqrt(2 * len(self.stack)))

    def teacher_forced(self, tokens: Tensor, conditioning: Tensor) -> Tensor:
        """Return logits ``[N, T, V]`` for tokens ``[B, T]``, the start first, and latents ``[N, latent_size]``."""
        count, length = tokens.shape
        words = self.words(self.word_dropout(tokens), self.positions[:length])
        h = self.stream(words.expand(len(conditioning) // count, -1, -1, -1).flatten(0, 1), conditioning)
        memories = self.memories(conditioning)
        remembered = 0 if memories is None else 1
        mask = torch.ones(length, length + remembered, dtype=torch.bool, device=h.device).tril(remembered)
        for i, block in enumerate(self.blocks):
            q, k, v = block.queries_keys_values(h)
            if memories is not None:
                memory = memories[i].to(k.dtype)
                k, v = torch.cat([memory, k], 2), torch.cat([memory, v], 2)
            h = block(h, q, k, v, mask)
        return self.logits(h)

    def incremental(self, conditioning: Tensor) -> IncrementalTransformer:
        """Return a fresh state for ``N`` texts, conditioned on latents ``[N, latent_size]``."""
        return IncrementalTransformer(self, conditioning)

    def words(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Return embedded tokens ``[N, T, width]`` for ``[N, T]`` at ``positions [T, width]``."""
        return cast(Tensor, self.scale * self.embedding(tokens) + positions)

    def stream(self, words: Tensor, z: Tensor) -> Tensor:
        """Return what enters the first block for embedded words ``[N, T, width]``."""
        h = words if self.to_embedding is None else words + self.to_embedding(z)[:, None]
        return cast(Tensor, self.dropout(h))

    def memories(self, z: Tensor) -> list[Tensor] | None:
        """Return what each block attends beside the words, key and value in one, ``[N, heads, 1, width / heads]``."""
        if self.to_memory is None:
            return None
        parts = self.to_memory(z)[:, None].chunk(len(self.stack), -1)
        return [block.split(part) for block, part in zip(self.blocks, parts, strict=True)]

    def logits(self, h: Tensor) -> Tensor:
        """Return logits ``[..., V]`` of what leaves the last block, ``[..., width]``."""
        logits: Tensor = self.head(self.norm(h), self.embedding.weight if self.tied else None)
        return logits


class IncrementalTransformer:
    """``N`` texts that are written token by token; a token attends the kept keys and values of those before it.

    Args:
        network: The transformer.
        conditioning: Latents ``[N, latent_size]``.
    """

    def __init__(self, network: TransformerTokens, conditioning: Tensor) -> None:
        self._network = network
        self._conditioning = conditioning
        self._memories = network.memories(conditioning)
        self._kept: list[tuple[Tensor, Tensor]] = []
        self._position = 0

    def step(self, tokens: Tensor) -> Tensor:
        """Append ``tokens [N]`` and return the next one's logits ``[N, V]``."""
        network = self._network
        words = network.words(tokens[:, None], network.positions[self._position])
        h = network.stream(words, self._conditioning)
        for i, block in enumerate(network.blocks):
            q, k, v = block.queries_keys_values(h)
            h = block(h, q, *self._keep(i, k, v), None)
        self._position += 1
        return network.logits(h[:, 0])

    def _keep(self, i: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Put keys and values of one position behind block ``i``'s others and return all of them."""
        first = 0 if self._memories is None else 1
        if len(self._kept) == i:
            # Room for the longest text at once: appending copies all that is kept at every token.
            room = first + len(self._network.positions)
            keys, values = (t.new_empty(*t.shape[:2], room, t.shape[3]) for t in (k, v))
            if self._memories is not None:
                keys[:, :, :1] = values[:, :, :1] = self._memories[i]
            self._kept.append((keys, values))
        keys, values = self._kept[i]
        here = first + self._position
        keys[:, :, here : here + 1], values[:, :, here : here + 1] = k, v
        return keys[:, :, : here + 1], values[:, :, : here + 1]

    def reorder(self, rows: Tensor) -> None:
        """Go on with the texts ``rows [N]`` of the present ones."""
        self._conditioning = self._conditioning[rows]
        self._kept = [(k[rows], v[rows]) for k, v in self._kept]


class TransformerDecoder(nn.Module):
    """``p(x|z)`` as a causal transformer, GPT-2's, that is told the latent as in Li et al., Optimus (2020), "Connecting
    BERT and GPT-2", https://arxiv.org/abs/2004.04092: by a linear map of it that is added to every embedding, by a
    linear map to one vector a block, which is attended as key and value beside the words, or by both.

    Args:
        latent_shape: Shape ``D`` of one latent; latents are flattened.
        length: ``T``, the tokens of the longest text with its end.
        ids: Ids of the data, and which of them are special.
        width: Width of the residual stream.
        heads: Attention heads, a divisor of the width.
        layers: Blocks.
        hidden: Width between a block's two linear layers; four times the width by default.
        dropout: On the embedding, on attention weights and on what blocks add.
        word_dropout: Probability that a word read in training is replaced by the unknown one: Bowman et al. (2016),
            section 3.1, https://arxiv.org/abs/1511.06349.
        latent: ``memory``, ``embedding``, or ``both``.
        positions: ``learned``, or ``sinusoidal``.
        tied: Whether the logits' weights are the embedding's.

    Raises:
        ShapeError: The width is no multiple of the heads.
    """

    def __init__(
        self,
        latent_shape: tuple[int, ...],
        length: int,
        ids: TokenIds,
        width: int = 256,
        heads: int = 4,
        layers: int = 4,
        hidden: int | None = None,
        dropout: float = 0.1,
        word_dropout: float = 0.0,
        latent: LatentUse = "both",
        positions: Positions = "learned",
        tied: bool = False,
    ) -> None:
        super().__init__()
        if width % heads or width % 2:
            raise ShapeError(
                f"model.decoder.width: expected an even multiple of heads = {heads}, found {width}; try "
                f"{2 * heads * max(round(width / (2 * heads)), 1)}"
            )
        self.latent_dims = len(latent_shape)
        self.event_shape = Size((length,))
        self.ids = ids
        self.network = TransformerTokens(
            math.prod(latent_shape), length, ids, width, heads, layers, hidden or 4 * width, dropout, word_dropout,
            latent, positions, tied,
        )  # fmt: skip

    def forward(self, z: Tensor) -> AutoregressiveText:
        """Return ``p(x|z)``, batch ``[...]``, event ``(T,)``, for ``z [..., *D]``."""
        batch = z.shape[: z.dim() - self.latent_dims]
        latents = z.flatten(-self.latent_dims)
        return AutoregressiveText(self.network, latents, batch, self.event_shape, self.ids.start, self.ids.special)


class TransformerDecoderConfig(DecoderConfig):
    """A causal transformer that is told the latent as in Li et al., Optimus (2020), https://arxiv.org/abs/2004.04092."""

    type: Literal["transformer"] = "transformer"
    width: PositiveInt = Field(256, description="width of the residual stream, an even multiple of heads")
    heads: PositiveInt = Field(4, description="attention heads")
    layers: PositiveInt = Field(4, description="blocks")
    hidden: PositiveInt | None = Field(None, description="width inside a block; null for four times the width")
    dropout: float = Field(0.1, ge=0, lt=1, description="on the embedding, attention weights and what blocks add")
    word_dropout: float = Field(
        0.0, ge=0, le=1, description="words replaced by the unknown one in training: Bowman et al. (2016), section 3.1"
    )
    latent: LatentUse = Field(
        "both", description="the latent is attended as a memory, added to the embedding, or both, as in Optimus"
    )
    positions: Positions = Field("learned", description="learned, or sinusoidal")
    tied: bool = Field(False, description="use the embedding's weights for the logits")

    @property
    def supports(self) -> frozenset[Support]:
        """Tokens."""
        return frozenset({"tokens"})

    @model_validator(mode="after")
    def _divisible(self) -> TransformerDecoderConfig:
        if self.width % self.heads or self.width % 2:
            raise ValueError(f"width must be an even multiple of heads = {self.heads}, found {self.width}")
        return self

    def build(self, context: BuildContext) -> TransformerDecoder:
        """Return the decoder.

        Raises:
            ShapeError: The data are no texts.
        """
        return TransformerDecoder(
            context.latent_shape,
            context.data.event_shape[0],
            token_ids(context, "model.decoder"),
            self.width,
            self.heads,
            self.layers,
            self.hidden,
            self.dropout,
            self.word_dropout,
            self.latent,
            self.positions,
            self.tied,
        )
