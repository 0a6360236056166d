"""The LSTM encoder against torch's packed sequences: padding is nothing."""

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence
from torch.testing import assert_close
from uncollapse.config import BuildContext
from uncollapse.errors import ShapeError
from uncollapse.posteriors.gaussian import GaussianPosterior, GaussianPosteriorConfig
from uncollapse.protocols import DataSpec, SpecialTokens
from uncollapse_text.encoders import LSTMEncoder
from uncollapse_text.encoders.lstm import LSTMEncoderConfig

SPECIAL = SpecialTokens(padding=5, start=2, end=0, unknown=3)
TEXTS = [[4, 6, 1, 7, 0], [0], [6, 6, 0]]
CONTEXT = BuildContext(DataSpec((9,), "tokens", vocabulary_size=8, special=SPECIAL), (2,), (6,))


def padded(width: int) -> torch.Tensor:
    return torch.tensor([t + [SPECIAL.padding] * (width - len(t)) for t in TEXTS])


def build(layers: int = 1) -> LSTMEncoder:
    return LSTMEncoder(8, SPECIAL, 4, 6, layers, init_range=0.9, embedding_init_range=1.0)


@pytest.mark.parametrize("layers", [1, 2])
def test_features_and_gradients_are_those_of_packed_texts(layers: int) -> None:
    part = build(layers).double()
    weights = torch.randn(3, 6).double()
    found = []
    for h in (part(padded(9)), packed(part), torch.cat([part(torch.tensor([t])) for t in TEXTS])):
        found.append((h, *torch.autograd.grad((weights * h).sum(), list(part.parameters()))))
    for ours, torchs, alone in zip(*found, strict=True):
        assert_close(ours, torchs)
        assert_close(ours, alone)


def packed(part: LSTMEncoder) -> torch.Tensor:
    read = torch.tensor([[SPECIAL.start] + t + [SPECIAL.padding] * (5 - len(t)) for t in TEXTS])
    lengths = torch.tensor([len(t) + 1 for t in TEXTS])
    inputs = pack_padded_sequence(part.embedding(read), lengths, batch_first=True, enforce_sorted=False)
    return part.lstm(inputs)[1][0][-1]


def test_single_precision_agrees_whatever_the_width() -> None:
    part = build()
    assert_close(part(padded(9)), part(padded(5)), rtol=1e-5, atol=1e-5)


def test_without_special_tokens_the_last_state_is_taken() -> None:
    part = LSTMEncoder(8, None, 4, 6, init_range=0.9)
    x = torch.randint(8, (3, 7))
    assert_close(part(x), part.lstm(part.embedding(x))[1][0][-1])


def test_half_precision() -> None:
    part = build()
    with torch.autocast("cpu", torch.bfloat16):
        h = part(padded(9))
    assert_close(h.float(), part(padded(9)), rtol=0.05, atol=0.05)


@torch.no_grad()
def test_initialization() -> None:
    part = LSTMEncoderConfig(embedding=30, hidden=40).build(CONTEXT)
    for name, parameter in part.named_parameters():
        limit = 0.1 if "embedding" in name else 0.01
        assert 0.9 * limit < float(parameter.abs().max()) <= limit, name
    torchs = LSTMEncoderConfig(embedding=30, hidden=40, init_range=None, embedding_init_range=None).build(CONTEXT)
    assert float(torchs.embedding.weight.std()) == pytest.approx(1, abs=0.2)
    assert float(torchs.lstm.weight_hh_l0.abs().max()) == pytest.approx(40**-0.5, rel=0.05)


@torch.no_grad()
def test_the_posteriors_head_may_have_no_bias_and_start_small() -> None:
    part = GaussianPosteriorConfig(latent_dim=20, bias=False, init_range=0.01).build(CONTEXT)
    assert [n for n, _ in part.named_parameters()] == ["head.weight"]
    assert 0.009 < float(part.head.weight.abs().max()) <= 0.01
    q = part(torch.zeros(2, 6))
    assert not bool(q.mean.any() | q.logvar.any())
    assert float(GaussianPosterior((6,), (20,)).head.weight.abs().max()) > 0.3


def test_only_texts_are_taken() -> None:
    with pytest.raises(ShapeError, match=r"model\.encoder: 'lstm' reads texts, .* found shape \(1, 8, 8\)"):
        LSTMEncoderConfig().build(BuildContext(DataSpec((1, 8, 8), "binary")))
