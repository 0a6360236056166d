"""The distribution that an autoregressive decoder of texts returns, and what it asks of a network."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints
from torch.nn.functional import cross_entropy
from uncollapse.errors import ConfigError, ShapeError
from uncollapse.protocols import SpecialTokens

from .text_search import IncrementalTokens, Told, beam_search, draw_from, likeliest, one_by_one

__all__ = ["AutoregressiveText", "DecodingMethod", "TextNetwork"]

DecodingMethod = Literal["greedy", "beam", "sample"]


class TextNetwork(Protocol):
    """What :class:`AutoregressiveText` needs: logits that depend, at each position, on tokens up to it only.

    Logits are ``-inf`` for ids that no text contains (padding, start); otherwise the probabilities of all texts do not
    sum to one, and such ids are drawn.
    """

    vocabulary_size: int

    def teacher_forced(self, tokens: Tensor, conditioning: Tensor) -> Tensor:
        """Return the logits of the token that follows each one, ``[N, T, V]``.

        Args:
            tokens: ``[B, T]``, the start token first.
            conditioning: ``[N, *K]`` with ``N`` a multiple of ``B``; row ``s * B + b`` belongs to text ``b``. What
                depends on the tokens alone is to be computed for ``B`` rows.
        """
        ...

    def incremental(self, conditioning: Tensor) -> IncrementalTokens:
        """Return a fresh state for writing ``N`` texts, conditioned on ``[N, *K]``."""
        ...


class AutoregressiveText(Distribution):
    """``p(x|z) = prod_t p(x_t | x_<t, z)`` over the tokens of a text: Bowman et al., Generating Sentences from a
    Continuous Space (2016), section 3, https://arxiv.org/abs/1511.06349.

    A text ends with the end token, whose probability counts, and goes on in padding, which has none: ``x`` may be
    narrower than the event, and texts give the same numbers whatever they are padded to. A text may also be cut off by
    the event's length before it has ended; the probabilities of all texts, these included, sum to one. Without special
    tokens every token counts, and every text has the event's length.

    Densities come from one pass over the data (teacher forcing). Samples are ancestral, one token after the other, and
    carry no gradient. There is no mean.

    Args:
        network: Gives logits.
        conditioning: What the network is to know of ``z``, ``[*batch, *K]``.
        batch_shape: Leading dimensions of ``z``.
        event_shape: ``(T,)``, the tokens of the longest text with its end.
        start: What stands before the first token.
        special: End and padding; None where every token is data.
    """

    arg_constraints = {}  # noqa: RUF012 - torch's own signature

    def __init__(
        self,
        network: TextNetwork,
        conditioning: Tensor,
        batch_shape: Size,
        event_shape: Size,
        start: int,
        special: SpecialTokens | None = None,
    ) -> None:
        self._network = network
        self._conditioning = conditioning
        self._start = start
        self._special = special
        super().__init__(batch_shape, event_shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """Return ids below the vocabulary's size."""
        return constraints.independent(constraints.integer_interval(0, self._network.vocabulary_size - 1), 1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> AutoregressiveText:
        """Return the same distribution over a larger batch; memory is shared."""
        batch = Size(batch_shape)
        conditioning = self._conditioning.expand(batch + self._conditioning_shape)
        return AutoregressiveText(self._network, conditioning, batch, self.event_shape, self._start, self._special)

    def token_log_prob(self, value: Tensor) -> Tensor:
        """Return ``log p(x_t | x_<t, z)`` in nats for texts ``[..., T]``, zero at padding, in float32 or better.

        Leading dimensions broadcast against the batch: ``[B, T]`` against ``[S, B]`` gives ``[S, B, T]``.

        Raises:
            ShapeError: Texts are longer than the event, or have no token.
        """
        longest = self.event_shape[0]
        if value.dim() < 1 or not 1 <= value.shape[-1] <= longest:
            raise ShapeError(
                f"model.decoder: it was built for texts of 1 to {longest} tokens, found {tuple(value.shape)}; the last "
                "dimension must be the tokens of one text (data.max_length limits them, the end comes on top)"
            )
        lead, length = value.shape[:-1], value.shape[-1:]
        batch = Size(torch.broadcast_shapes(lead, self.batch_shape))
        # Leading dimensions along which the texts are the same stay away from the network: it shares them.
        aligned = Size([1] * (len(batch) - len(lead))) + lead
        shared = next((i for i, size in enumerate(aligned) if size != 1), len(batch))
        texts = value.reshape(aligned[shared:] + length).expand(batch[shared:] + length).reshape(-1, *length)
        return self._scored(texts, self._flat(batch)).reshape(batch + length)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return ``log p(x|z)`` in nats, summed over the tokens of texts ``[..., T]`` that are not padding.

        Leading dimensions broadcast against the batch: ``[B, T]`` against ``[S, B]`` gives ``[S, B]``.

        Raises:
            ShapeError: Texts are longer than the event, or have no token.
        """
        return self.token_log_prob(value).sum(-1)

    @torch.no_grad()
    def sample(self, sample_shape: Any = (), progress: Told | None = None) -> Tensor:
        """Draw ``[*sample_shape, *batch, T]``, padding behind the end; a token costs its own new work only.

        Args:
            sample_shape: Leading dimensions of the result.
            progress: Called after each token with the share of the tokens that are done, up to 1.
        """
        batch = Size(sample_shape) + self.batch_shape
        conditioning = self._flat(batch)
        state, first = self._network.incremental(conditioning), self._first(conditioning)
        texts = one_by_one(state, draw_from(1.0), first, self.event_shape[0], self._special, progress)
        return texts.reshape(batch + self.event_shape)

    @torch.no_grad()
    def decode(
        self,
        method: DecodingMethod = "greedy",
        *,
        beam_size: int = 5,
        temperature: float = 1.0,
        max_length: int | None = None,
        progress: Told | None = None,
    ) -> Tensor:
        """Return one text for each latent, ``[*batch, max_length]``, padding behind the end.

        Args:
            method: ``greedy``: the likeliest token each time. ``beam``: the likeliest text that a beam finds, see
                :func:`~uncollapse_text.decoders.text_search.beam_search`; scores are not divided by the length, which
                favours short texts. ``sample``: ancestral.
            beam_size: Hypotheses of ``beam``.
            temperature: Divides the logits for ``sample``; below 1 texts are likelier and vary less.
            max_length: Tokens of a text at most, the end included; those of the event by default.
            progress: Called after each token with the share of the tokens that are done, up to 1.

        Raises:
            ConfigError: An argument is outside its range.
        """
        longest = self.event_shape[0]
        length = longest if max_length is None else max_length
        if method not in ("greedy", "beam", "sample"):
            raise ConfigError(f"decode: method: expected 'greedy', 'beam' or 'sample', found {method!r}")
        if not 1 <= length <= longest:
            raise ConfigError(f"decode: max_length: expected 1 to {longest}, what the decoder is for, found {length}")
        if beam_size < 1:
            raise ConfigError(f"decode: beam_size: expected at least 1, found {beam_size}")
        if not temperature > 0:
            raise ConfigError(
                f"decode: temperature: expected more than 0, found {temperature:g}; 'greedy' is its limit"
            )
        conditioning = self._flat(self.batch_shape)
        if method == "beam":
            conditioning = conditioning.repeat_interleave(beam_size, 0)
        state, first = self._network.incremental(conditioning), self._first(conditioning)
        if method == "beam":
            texts = beam_search(state, beam_size, first, length, self._special, progress)
        else:
            choose = likeliest if method == "greedy" else draw_from(temperature)
            texts = one_by_one(state, choose, first, length, self._special, progress)
        return texts.reshape((*self.batch_shape, length))

    @property
    def _conditioning_shape(self) -> Size:
        return self._conditioning.shape[len(self.batch_shape) :]

    def _flat(self, batch: Size) -> Tensor:
        kept = self._conditioning_shape
        return self._conditioning.expand(batch + kept).reshape(-1, *kept)

    def _first(self, conditioning: Tensor) -> Tensor:
        return torch.full((len(conditioning),), self._start, device=conditioning.device)

    def _scored(self, texts: Tensor, conditioning: Tensor) -> Tensor:
        """Return the log probability of every token of texts ``[B, T]``, given conditioning ``[N, *K]``, ``[N, T]``."""
        tokens = torch.cat([texts.new_full((len(texts), 1), self._start), texts[:, :-1]], 1)
        logits = self._network.teacher_forced(tokens, conditioning)
        if logits.dtype in (torch.bfloat16, torch.float16):
            logits = logits.float()
        targets = texts.repeat(len(conditioning) // len(texts), 1)
        ignored = -100 if self._special is None else self._special.padding
        nats = cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=ignored, reduction="none")
        return -nats.view(targets.shape)
