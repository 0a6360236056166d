"""Decoding, reconstructing and interpolating texts, on a model whose answers are known; and padding that leaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pytest
import torch
from torch import Size, Tensor, nn
from torch.distributions import Distribution
from uncollapse.capabilities import supports
from uncollapse.config import BuildContext, DataConfig, DecoderConfig, EncoderConfig
from uncollapse.config.pipeline import ModelConfig, PipelineConfig
from uncollapse.data import InMemorySource
from uncollapse.distributions import DiagonalNormal, standard_normal
from uncollapse.errors import ConfigError, ShapeError
from uncollapse.model import LatentVariableModel
from uncollapse.pipeline import Pipeline
from uncollapse.posteriors.gaussian import GaussianPosteriorConfig
from uncollapse.protocols import DataSpec, ReadsText, SpecialTokens
from uncollapse_text.data import TextSplit
from uncollapse_text.texts import decode, from_prior, interpolate, means, reconstruct

SPECIAL = SpecialTokens()
SPEC = DataSpec((5,), "tokens", vocabulary_size=14, special=SPECIAL)


class Numbers(InMemorySource):
    """Texts of digits, token ``4 + d`` for the digit ``d``."""

    def __init__(self) -> None:
        texts = [[4 + i % 10] * (1 + i % 4) for i in range(20)]
        super().__init__(*(TextSplit(texts, spec=SPEC, batching="padded") for _ in range(3)))

    def to_tokens(self, texts: Sequence[str]) -> Tensor:
        rows = [torch.tensor([*(4 + int(d) for d in text.split()), SPECIAL.end]) for text in texts]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=SPECIAL.padding)

    def to_texts(self, tokens: Tensor) -> list[str]:
        return [" ".join(str(t - 4) for t in row if t > 3) for row in tokens.tolist()]


class First(nn.Module):
    """The first digit of a text, and how much of the text is padding where ``leaks``."""

    feature_shape = (2,)

    def __init__(self, leaks: bool = False) -> None:
        super().__init__()
        self.leaks = leaks

    def forward(self, x: Tensor) -> Tensor:
        padding = (x == SPECIAL.padding).double().mean(1) if self.leaks else torch.zeros(len(x))
        return torch.stack([x[:, 0] - 4.0, padding], 1).float()


class Exactly(nn.Module):
    latent_shape = (2,)

    def forward(self, h: Tensor, progress: object = None) -> DiagonalNormal:
        return DiagonalNormal(h, torch.full_like(h, -30.0))


class Prior(nn.Module):
    def forward(self) -> DiagonalNormal:
        return standard_normal((2,))


class Rounded(Distribution):
    """Says the rounded latent, over and over; ``decode`` tells how it was asked."""

    asked: dict[str, Any]

    def __init__(self, z: Tensor, leaks: bool = False) -> None:
        super().__init__(z.shape[:-1], Size(SPEC.event_shape), validate_args=False)
        self.z, self.leaks = z, leaks

    def sample(self, sample_shape: Any = ()) -> Tensor:
        said = (self.z[..., :1].round().long() + 4).expand(*self.batch_shape, 4)
        return torch.cat([said, torch.full_like(said[..., :1], SPECIAL.end)], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        real = torch.ones_like(value, dtype=torch.bool) if self.leaks else value != SPECIAL.padding
        return -real.float().sum(-1) + 0 * self.z[..., 0]


class Searchable(Rounded):
    def decode(self, method: str = "greedy", **options: Any) -> Tensor:
        Searchable.asked = {"method": method, **options}
        return self.sample()


class Speaker(nn.Module):
    def __init__(self, family: type[Rounded] = Searchable, leaks: bool = False) -> None:
        super().__init__()
        self.family, self.leaks = family, leaks

    def forward(self, z: Tensor) -> Rounded:
        return self.family(z, self.leaks)


def model(family: type[Rounded] = Searchable) -> LatentVariableModel:
    return LatentVariableModel(First(), Exactly(), Prior(), Speaker(family))


def test_the_source_reads_text() -> None:
    assert supports(Numbers(), ReadsText)


def test_means_are_those_of_sentences_or_of_their_tokens() -> None:
    data = Numbers()
    expected = torch.tensor([[3.0, 0.0], [7.0, 0.0]])
    assert torch.equal(means(model(), data, ["3 3", "7"]), expected)
    assert torch.equal(means(model(), data, data.to_tokens(["3 3", "7"])), expected)


def test_a_reconstruction_is_what_the_decoder_says_of_the_mean() -> None:
    assert reconstruct(model(), Numbers(), ["3 1", "7"]) == ["3 3 3 3", "7 7 7 7"]
    assert Searchable.asked == {"method": "greedy"}


def test_the_way_between_two_texts_is_straight_and_has_both_ends() -> None:
    found = interpolate(model(), Numbers(), ["0 5", "8"], steps=5)
    assert found == ["0 0 0 0", "2 2 2 2", "4 4 4 4", "6 6 6 6", "8 8 8 8"]
    with pytest.raises(ConfigError, match="steps: expected at least 2"):
        interpolate(model(), Numbers(), ["0", "1"], steps=1)


def test_texts_of_the_prior_are_read_off_as_asked() -> None:
    torch.manual_seed(3)
    z = standard_normal((2,)).sample(Size((7,)))
    torch.manual_seed(3)
    tokens = from_prior(model(), 7, "beam", max_batch=3, beam_size=2)
    assert torch.equal(tokens[:, 0] - 4, z[:, 0].round().long())
    assert tokens.shape == (7, 5)
    assert Searchable.asked == {"method": "beam", "beam_size": 2}


def test_the_decoder_is_told_how_to_decode() -> None:
    p_x = Searchable(torch.zeros(3, 2))
    decode(p_x, "beam", beam_size=7, temperature=0.5)
    assert Searchable.asked == {"method": "beam", "beam_size": 7}
    decode(p_x, "sample", beam_size=7, temperature=0.5)
    assert Searchable.asked == {"method": "sample", "temperature": 0.5}


def test_a_decoder_that_cannot_search_is_sampled_from() -> None:
    p_x = Rounded(torch.full((2, 2), 4.0))
    assert torch.equal(decode(p_x, "sample"), p_x.sample())
    with pytest.raises(ConfigError, match=r"Rounded has no method decode.*'greedy' at temperature 1; use 'sample'"):
        decode(p_x)
    with pytest.raises(ConfigError, match=r"'sample' at temperature 0.5"):
        decode(p_x, "sample", temperature=0.5)


def test_the_model_keeps_its_mode() -> None:
    trained = model().train()
    reconstruct(trained, Numbers(), ["3"])
    assert trained.training


# -------------------------------------------------------------------------------------------------- padding that leaks


class NumbersConfig(DataConfig):
    """Digits as words, for tests."""

    type: Literal["numbers"] = "numbers"

    def build(self, seed: int) -> Numbers:
        return Numbers()


class FirstConfig(EncoderConfig):
    """The first digit, for tests."""

    type: Literal["first"] = "first"
    leaks: bool = False

    def build(self, context: BuildContext) -> First:
        return First(self.leaks)


class SpeakerConfig(DecoderConfig):
    """A constant text, for tests."""

    type: Literal["speaker"] = "speaker"
    leaks: bool = False

    def build(self, context: BuildContext) -> Speaker:
        return Speaker(leaks=self.leaks)


def pipeline(*, encoder: bool = False, decoder: bool = False) -> Pipeline:
    parts = ModelConfig(
        encoder=FirstConfig(leaks=encoder),
        posterior=GaussianPosteriorConfig(latent_dim=2),
        decoder=SpeakerConfig(leaks=decoder),
    )
    return Pipeline(PipelineConfig(name="numbers", data=NumbersConfig(), model=parts))


def test_parts_that_read_padding_are_found_before_training() -> None:
    assert pipeline().build().model.latent_shape == (2,)
    with pytest.raises(ShapeError, match=r"model.encoder: its features change when a text is filled up with padding"):
        pipeline(encoder=True).build()
    with pytest.raises(ShapeError, match=r"model.decoder: its log densities change .* \(by up to 1\)"):
        pipeline(decoder=True).build()
