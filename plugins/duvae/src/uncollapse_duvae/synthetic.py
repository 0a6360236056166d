"""Text-like data whose latent is known: five Gaussians in the plane, read out by a random LSTM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from uncollapse.config import DataConfig
from uncollapse.data import InMemorySource
from uncollapse.protocols import DataSpec, SpecialTokens
from uncollapse_text.data import TextSplit

__all__ = ["RandomLSTM", "SyntheticTextConfig", "SyntheticTextSource"]

CENTRES = ((0.0, 0.0), (-2.0, -2.0), (-2.0, 2.0), (2.0, -2.0), (2.0, 2.0))


class RandomLSTM(nn.Module):
    """A language model with random weights, conditioned on a latent as the LSTM decoders of these papers are: the
    latent stands beside every word's embedding, and the first state is a function of it.

    He et al., Lagging Inference Networks and Posterior Collapse (2019), appendix, https://arxiv.org/abs/1901.05534, as
    far as it says: one LSTM layer, weights from ``U(-1, 1)``. How the latent enters is not stated there.

    Args:
        words: Number of words.
        latent_dim: Dimension of the latent.
        embedding: Size of a word's embedding.
        hidden: Units of the LSTM.
        weight_range: Weights are uniform on ``(-weight_range, weight_range)``.
        generator: Of the weights.
    """

    def __init__(
        self, words: int, latent_dim: int, embedding: int, hidden: int, weight_range: float,
        generator: torch.Generator,
    ) -> None:  # fmt: skip
        super().__init__()
        # One embedding more, for the start of a text.
        self.embed = nn.Embedding(words + 1, embedding)
        self.cell = nn.LSTMCell(embedding + latent_dim, hidden)
        self.start = nn.Linear(latent_dim, hidden, bias=False)
        self.head = nn.Linear(hidden, words)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-weight_range, weight_range, generator=generator)

    @torch.no_grad()
    def sample(self, z: Tensor, length: int, generator: torch.Generator) -> Tensor:
        """Return words ``[N, length]`` for latents ``z [N, D]``."""
        cell = self.start(z)
        state = (cell.tanh(), cell)
        word = torch.full((len(z),), self.embed.num_embeddings - 1)
        drawn = []
        for _ in range(length):
            state = self.cell(torch.cat([self.embed(word), z], 1), state)
            # One uniform number a draw; torch.multinomial takes one for each word of the vocabulary.
            below = self.head(state[0]).softmax(1).cumsum(1)
            level = torch.rand((len(z), 1), generator=generator) * below[:, -1:]
            word = torch.searchsorted(below, level, right=True)[:, 0].clamp(max=below.shape[1] - 1)
            drawn.append(word)
        return torch.stack(drawn, 1)


class SyntheticTextSource(InMemorySource):
    """Three splits of synthetic texts, and the latents that made them.

    Args:
        train: Training texts.
        validation: Texts for model selection.
        test: Texts for the final numbers.
        label_names: Name of every component.
        latents: The latents of each split by name, ``[N, 2]``, in its stored order.
    """

    def __init__(
        self, train: TextSplit, validation: TextSplit, test: TextSplit, label_names: tuple[str, ...],
        latents: dict[str, Tensor],
    ) -> None:  # fmt: skip
        super().__init__(train, validation, test, label_names)
        self.latents = latents

    def to_texts(self, tokens: Tensor) -> list[str]:
        """Return one text for each row of ``[N, T]``; words are numbers."""
        special = self.spec.special or SpecialTokens()
        reserved = {special.padding, special.start, special.end, special.unknown}
        texts = []
        for row in tokens.tolist():
            ids = row[: row.index(special.end)] if special.end in row else row
            texts.append(" ".join(str(i) for i in ids if i not in reserved))
        return texts

    def to_tokens(self, texts: Sequence[str]) -> Tensor:
        """Return ``[N, T]`` for texts of as many words as the data's."""
        special = self.spec.special or SpecialTokens()
        return torch.tensor([[*map(int, text.split()), special.end] for text in texts])


class SyntheticTextConfig(DataConfig):
    """Texts of a random LSTM whose latent comes from five Gaussians in the plane: Shen et al., DU-VAE (2021), section
    4.3, https://arxiv.org/abs/2110.12381; He et al. (2019), appendix, https://arxiv.org/abs/1901.05534.

    The Gaussians lie at the origin and at (±2, ±2), with unit variance. Labels say which one a text comes from. Neither
    generator is released; everything is the same for every seed of a run and another for another ``split_seed``.
    """

    type: Literal["duvae.synthetic_text"] = "duvae.synthetic_text"
    batch_size: int = Field(32, ge=1, description="examples of one optimizer step, over all processes")
    train: PositiveInt = Field(16_000, description="training texts")
    validation: PositiveInt = Field(2_000, description="validation texts")
    test: PositiveInt = Field(2_000, description="test texts")
    words: PositiveInt = Field(1_000, description="number of words; the vocabulary has four special tokens more")
    length: PositiveInt = Field(10, description="words of a text")
    embedding: PositiveInt = Field(200, description="size of the generator's embeddings")
    hidden: PositiveInt = Field(100, description="units of the generator's LSTM")
    weight_range: PositiveFloat = Field(1.0, description="the generator's weights are uniform up to this")
    split_seed: int = Field(0, ge=0, lt=2**31, description="seed of generator and texts; the run's seed is another")

    def build(self, seed: int) -> SyntheticTextSource:
        """Return the source; see :class:`uncollapse.config.DataConfig`."""
        generator = torch.Generator().manual_seed(self.split_seed)
        centres, special = torch.tensor(CENTRES), SpecialTokens()
        reserved = 1 + max(special.padding, special.start, special.end, special.unknown)
        model = RandomLSTM(self.words, centres.shape[1], self.embedding, self.hidden, self.weight_range, generator)
        spec = DataSpec(
            (self.length + 1,), "tokens", len(centres), vocabulary_size=self.words + reserved, special=special
        )
        splits, latents = {}, {}
        for part, count in (("train", self.train), ("validation", self.validation), ("test", self.test)):
            labels = torch.randint(len(centres), (count,), generator=generator)
            z = centres[labels] + torch.randn((count, centres.shape[1]), generator=generator)
            texts = model.sample(z, self.length, generator) + reserved
            splits[part] = TextSplit(texts.tolist(), labels, spec=spec, seed=seed)
            latents[part] = z
        names = tuple(f"component at ({x:g}, {y:g})" for x, y in CENTRES)
        return SyntheticTextSource(splits["train"], splits["validation"], splits["test"], names, latents)
