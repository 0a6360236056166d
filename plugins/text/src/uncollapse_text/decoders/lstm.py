"""LSTM decoder of texts."""

from __future__ import annotations

import math
from typing import Literal, cast

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Size, Tensor, nn
from torch.nn import functional
from uncollapse.config import BuildContext, DecoderConfig
from uncollapse.protocols import Support

from ..encoders.lstm import initialize_uniform
from .autoregressive_text import AutoregressiveText
from .tokens import TokenHead, TokenIds, WordDropout, token_ids

__all__ = ["LSTMDecoder", "LSTMDecoderConfig", "LSTMTokens"]


State = tuple[Tensor, Tensor]
"""``h`` and ``c`` of one layer, ``[N, hidden]`` each."""


class LSTMLayer(nn.LSTM):
    """One layer of ``torch.nn.LSTM``, the parts of which can be computed by themselves as well."""

    weight_ih_l0: nn.Parameter
    weight_hh_l0: nn.Parameter
    bias_ih_l0: nn.Parameter
    bias_hh_l0: nn.Parameter

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__(inputs, hidden, batch_first=True)

    def outputs(self, x: Tensor, state: State) -> Tensor:
        """Return the outputs ``[N, T, hidden]`` for inputs ``x [N, T, inputs]``."""
        h, c = state
        outputs: Tensor = self(x, (h[None], c[None]))[0]
        return outputs

    def of_first(self, x: Tensor) -> Tensor:
        """Return what the first numbers ``[..., n]`` of an input add to the gates, ``[..., 4 * hidden]``."""
        return functional.linear(x, self.weight_ih_l0[:, : x.shape[-1]])

    def of_last(self, x: Tensor) -> Tensor:
        """Return what its last numbers ``[..., n]`` and the biases add, ``[..., 4 * hidden]``."""
        return functional.linear(x, self.weight_ih_l0[:, -x.shape[-1] :], self.bias_ih_l0 + self.bias_hh_l0)

    def step(self, gates: Tensor, state: State) -> State:
        """Return the next state: Hochreiter and Schmidhuber (1997), with the forget gate of Gers et al. (2000).

        Args:
            gates: What input and biases add to the gates, ``[N, 4 * hidden]``.
            state: The present one.
        """
        h, c = state
        i, f, g, o = (gates + functional.linear(h, self.weight_hh_l0)).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class LSTMTokens(nn.Module):
    """An LSTM over tokens that knows a latent: the network of :class:`LSTMDecoder`, which explains the arguments."""

    def __init__(
        self,
        latent_size: int,
        ids: TokenIds,
        embedding: int,
        hidden: int,
        layers: int,
        dropout_in: float,
        dropout_out: float,
        word_dropout: float,
    ) -> None:
        super().__init__()
        self.vocabulary_size = ids.size
        self.word_dropout = WordDropout(ids, word_dropout)
        self.embedding = nn.Embedding(ids.rows, embedding)
        self.dropout_in = nn.Dropout(dropout_in)
        self.to_state = nn.Linear(latent_size, layers * hidden, bias=False)
        self.bottom = LSTMLayer(embedding + latent_size, hidden)
        self.above = nn.ModuleList(LSTMLayer(hidden, hidden) for _ in range(layers - 1))
        self.dropout_out = nn.Dropout(dropout_out)
        self.head = TokenHead(hidden, ids)

    def teacher_forced(self, tokens: Tensor, conditioning: Tensor) -> Tensor:
        """Return logits ``[N, T, V]`` for tokens ``[B, T]``, the start first, and latents ``[N, latent_size]``.

        The ``N / B`` latents of a text share its embedding, and what dropout leaves of its words.
        """
        words = self.dropout_in(self.embedding(self.word_dropout(tokens)))
        bottom, *above = self.states(conditioning)
        h: Tensor = self.dropout_out(self._bottom(words, conditioning, bottom))
        for layer, state in zip(self.layers_above, above, strict=True):
            h = self.dropout_out(layer.outputs(h, state))
        logits: Tensor = self.head(h)
        return logits

    def incremental(self, conditioning: Tensor) -> IncrementalLSTM:
        """Return a fresh state for ``N`` texts, conditioned on latents ``[N, latent_size]``."""
        return IncrementalLSTM(self, conditioning)

    @property
    def layers_above(self) -> list[LSTMLayer]:
        """The layers that read another one's outputs."""
        return cast(list[LSTMLayer], list(self.above))

    def states(self, z: Tensor) -> list[State]:
        """Return the state of every layer before the first token."""
        # Under autocast the projection is bfloat16 where the embedding is not, and an LSTM takes one type only.
        cells = self.to_state(z).to(self.embedding.weight.dtype).chunk(1 + len(self.above), -1)
        return [(c.tanh(), c.contiguous()) for c in cells]

    def _bottom(self, words: Tensor, z: Tensor, state: State) -> Tensor:
        """Return the outputs ``[N, T, hidden]`` for embedded words ``[B, T, embedding]``."""
        texts, length = words.shape[:2]
        samples = len(z) // texts
        if samples == 1 or words.is_cuda:
            inputs = torch.cat([words.repeat(samples, 1, 1), z[:, None].expand(-1, length, -1)], -1)
            return self.bottom.outputs(inputs, state)
        # The words' part of the gates is computed once for all latents of a text. On a CPU, with 30 latents, a pass
        # with gradients takes two thirds of the time; without gradients it takes the same, and no input is copied for
        # every latent. For one latent the loop over positions costs more than it saves.
        of_words = self.bottom.of_first(words)
        of_latent = self.bottom.of_last(z).unflatten(0, (samples, texts))
        outputs = []
        for t in range(length):
            state = self.bottom.step((of_words[:, t] + of_latent).flatten(0, 1), state)
            outputs.append(state[0])
        return torch.stack(outputs, 1)


class IncrementalLSTM:
    """``N`` texts that are written token by token; a token costs one step of the LSTM.

    Args:
        network: The LSTM.
        conditioning: Latents ``[N, latent_size]``.
    """

    def __init__(self, network: LSTMTokens, conditioning: Tensor) -> None:
        self._network = network
        self._of_latent = network.bottom.of_last(conditioning)
        self._states = network.states(conditioning)

    def step(self, tokens: Tensor) -> Tensor:
        """Append ``tokens [N]`` and return the next one's logits ``[N, V]``."""
        network = self._network
        gates = network.bottom.of_first(network.dropout_in(network.embedding(tokens))) + self._of_latent
        bottom, *above = self._states
        self._states = [network.bottom.step(gates, bottom)]
        for layer, state in zip(network.layers_above, above, strict=True):
            h = network.dropout_out(self._states[-1][0])
            self._states.append(layer.step(layer.of_last(h), state))
        logits: Tensor = network.head(network.dropout_out(self._states[-1][0]))
        return logits

    def reorder(self, rows: Tensor) -> None:
        """Go on with the texts ``rows [N]`` of the present ones."""
        self._of_latent = self._of_latent[rows]
        self._states = [(h[rows], c[rows]) for h, c in self._states]


class LSTMDecoder(nn.Module):
    """``p(x|z)`` as an LSTM that reads the words so far: Bowman et al., Generating Sentences from a Continuous Space
    (2016), section 3, https://arxiv.org/abs/1511.06349, in the form of He et al., Lagging Inference Networks (2019),
    https://arxiv.org/abs/1901.05534, which DU-VAE (Shen et al., 2021) uses too.

    The latent stands beside every embedded word; ``c_0 = W z`` and ``h_0 = tanh(c_0)`` for every layer. Dropout acts on
    embedded words and on the outputs of every layer. The logits are linear without bias. Word dropout is Bowman's,
    section 3.1; He et al. do without.

    Args:
        latent_shape: Shape ``D`` of one latent; latents are flattened.
        length: ``T``, the tokens of the longest text with its end.
        ids: Ids of the data, and which of them are special.
        embedding: Width of the embedding.
        hidden: Width of the state.
        layers: LSTM layers.
        dropout_in: Dropout on embedded words.
        dropout_out: Dropout on outputs.
        word_dropout: Probability that a word read in training is replaced by the unknown one.
        init_range: Every weight and bias starts in ``U(-init_range, init_range)``; None for torch's own.
        embedding_init_range: The same for the embedding.
    """

    def __init__(
        self,
        latent_shape: tuple[int, ...],
        length: int,
        ids: TokenIds,
        embedding: int = 512,
        hidden: int = 1024,
        layers: int = 1,
        dropout_in: float = 0.5,
        dropout_out: float = 0.5,
        word_dropout: float = 0.0,
        init_range: float | None = 0.01,
        embedding_init_range: float | None = 0.1,
    ) -> None:
        super().__init__()
        self.latent_dims = len(latent_shape)
        self.event_shape = Size((length,))
        self.ids = ids
        self.network = LSTMTokens(
            math.prod(latent_shape), ids, embedding, hidden, layers, dropout_in, dropout_out, word_dropout
        )
        initialize_uniform(self, init_range, embedding_init_range)

    def forward(self, z: Tensor) -> AutoregressiveText:
        """Return ``p(x|z)``, batch ``[...]``, event ``(T,)``, for ``z [..., *D]``."""
        batch = z.shape[: z.dim() - self.latent_dims]
        latents = z.flatten(-self.latent_dims)
        return AutoregressiveText(self.network, latents, batch, self.event_shape, self.ids.start, self.ids.special)


class LSTMDecoderConfig(DecoderConfig):
    """An LSTM that reads the words so far: Bowman et al. (2016), section 3, https://arxiv.org/abs/1511.06349, with the
    settings of He et al., Lagging Inference Networks (2019), https://arxiv.org/abs/1901.05534.
    """

    type: Literal["lstm"] = "lstm"
    embedding: PositiveInt = Field(512, description="width of the embedding")
    hidden: PositiveInt = Field(1024, description="width of the state")
    layers: PositiveInt = Field(1, description="LSTM layers")
    dropout_in: float = Field(0.5, ge=0, lt=1, description="dropout on embedded words")
    dropout_out: float = Field(0.5, ge=0, lt=1, description="dropout on outputs of the LSTM")
    word_dropout: float = Field(
        0.0, ge=0, le=1, description="words replaced by the unknown one in training: Bowman et al. (2016), section 3.1"
    )
    init_range: PositiveFloat | None = Field(
        0.01, description="weights and biases start uniform in plus or minus this; null for torch's own"
    )
    embedding_init_range: PositiveFloat | None = Field(0.1, description="the same for the embedding")

    @property
    def supports(self) -> frozenset[Support]:
        """Tokens."""
        return frozenset({"tokens"})

    def build(self, context: BuildContext) -> LSTMDecoder:
        """Return the decoder.

        Raises:
            ShapeError: The data are no texts.
        """
        return LSTMDecoder(
            context.latent_shape,
            context.data.event_shape[0],
            token_ids(context, "model.decoder"),
            self.embedding,
            self.hidden,
            self.layers,
            self.dropout_in,
            self.dropout_out,
            self.word_dropout,
            self.init_range,
            self.embedding_init_range,
        )
