"""The LSTM decoder against a computation by hand, and what its options do."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from uncollapse.config import BuildContext
from uncollapse.errors import ShapeError
from uncollapse.protocols import DataSpec, SpecialTokens
from uncollapse_text.decoders import LSTMDecoder, TokenIds
from uncollapse_text.decoders.lstm import LSTMDecoderConfig, LSTMLayer

SPECIAL = SpecialTokens()
TEXTS = torch.tensor([[4, 5, 6, 2], [6, 3, 2, 0]])
CONTEXT = BuildContext(DataSpec((5,), "tokens", vocabulary_size=7, special=SPECIAL), (3,))


def build(layers: int = 1, special: SpecialTokens | None = SPECIAL, **options: float) -> LSTMDecoder:
    return LSTMDecoder(
        (3,), 5, TokenIds(7, special), 4, 6, layers, init_range=0.9, embedding_init_range=1.0, **options
    ).double()  # fmt: skip


def by_hand(part: LSTMDecoder, text: list[int], z: Tensor, start: int, blocked: list[int]) -> Tensor:
    """``log p`` of one text, written out: section by section of the docstring."""
    weights = dict(part.network.named_parameters())
    layers = [f"{name}." for name in ["bottom", *(f"above.{i}" for i in range(len(part.network.above)))]]
    cells = list((weights["to_state.weight"] @ z).view(len(layers), -1))
    hiddens = [torch.tanh(c) for c in cells]
    total = torch.zeros(()).double()
    for before, token in zip([start, *text], text, strict=False):
        inputs = torch.cat([weights["embedding.weight"][before], z])
        for i, layer in enumerate(layers):
            gates = weights[layer + "weight_ih_l0"] @ inputs + weights[layer + "bias_ih_l0"]
            gates = gates + weights[layer + "weight_hh_l0"] @ hiddens[i] + weights[layer + "bias_hh_l0"]
            take, forget, new, put = gates.view(4, -1)
            cells[i] = torch.sigmoid(forget) * cells[i] + torch.sigmoid(take) * torch.tanh(new)
            inputs = hiddens[i] = torch.sigmoid(put) * torch.tanh(cells[i])
        scores = inputs @ weights["head.weight"]
        kept = [scores[i] for i in range(7) if i not in blocked]
        total = total + scores[token] - torch.stack(kept).exp().sum().log()
    return total


@pytest.mark.parametrize("layers", [1, 2])
def test_log_prob_is_what_one_writes_by_hand(layers: int) -> None:
    part, z = build(layers).eval(), torch.randn(2, 3).double()
    expected = [by_hand(part, t, row, 1, [0, 1]) for t, row in zip([[4, 5, 6, 2], [6, 3, 2]], z, strict=True)]
    assert_close(part(z).log_prob(TEXTS), torch.stack(expected))


def test_without_special_tokens_every_token_counts() -> None:
    part, z = build(special=None).eval(), torch.randn(1, 3).double()
    # The start is the row behind the data's seven, and every id is possible.
    expected = by_hand(part, [6, 3, 2, 0], z[0], 7, [])
    assert_close(part(z).log_prob(TEXTS[1:]), expected[None])


@pytest.mark.parametrize("layers", [1, 2])
def test_several_latents_a_text_give_the_gradients_of_each(layers: int) -> None:
    part, z = build(layers).eval(), torch.randn(4, 2, 3).double().requires_grad_()
    weights = torch.randn(4, 2).double()
    found = []
    for log_p in (part(z).log_prob(TEXTS), torch.stack([part(row).log_prob(TEXTS) for row in z])):
        found.append((log_p, *torch.autograd.grad((weights * log_p).sum(), [z, *part.parameters()])))
    for shared, alone in zip(*found, strict=True):
        assert_close(shared, alone)


def test_words_are_embedded_once_for_all_latents() -> None:
    part, rows = build().eval(), []
    part.network.embedding.register_forward_hook(lambda _, __, found: rows.append(tuple(found.shape)))
    part(torch.randn(5, 2, 3).double()).log_prob(TEXTS)
    assert rows == [(2, 4, 4)]


def test_a_layer_is_torchs_lstm() -> None:
    layer = LSTMLayer(4, 6).double()
    x, state = torch.randn(3, 5, 4).double(), (torch.randn(3, 6).double(), torch.randn(3, 6).double())
    whole = layer.outputs(x, state)
    for t in range(5):
        state = layer.step(layer.of_last(x[:, t]), state)
        assert_close(state[0], whole[:, t])
        parts = layer.of_first(x[:, t, :3]) + layer.of_last(x[:, t, 3:])
        assert_close(parts, layer.of_last(x[:, t]))


def test_dropout_of_words_spares_the_latent() -> None:
    part, z = build(dropout_in=0.5, dropout_out=0.0).train(), torch.randn(2, 3).double()
    part.network.dropout_in.p = 1.0
    other = torch.tensor([[5, 4, 6, 2], [4, 3, 2, 0]])
    here, there = part(z).token_log_prob(TEXTS), part(z).token_log_prob(other)
    assert_close(here[:, 2], there[:, 2])
    assert not torch.allclose(here, part(z + 1).token_log_prob(TEXTS))


@pytest.mark.parametrize("layers", [1, 2])
def test_dropout_of_outputs_leaves_uniform_logits(layers: int) -> None:
    part, z = build(layers, dropout_in=0.0, dropout_out=0.5).train(), torch.randn(2, 3).double()
    assert not torch.equal(part(z).log_prob(TEXTS), part(z).log_prob(TEXTS))
    part.network.dropout_out.p = 1.0
    assert_close(part(z).log_prob(TEXTS), -math.log(5) * torch.tensor([4.0, 3.0]).double())


@torch.no_grad()
def test_initialization() -> None:
    part = LSTMDecoderConfig(embedding=30, hidden=40, layers=2).build(CONTEXT)
    for name, parameter in part.named_parameters():
        limit = 0.1 if "embedding" in name else 0.01
        assert 0.9 * limit < float(parameter.abs().max()) <= limit, name
    assert {n for n, p in part.named_parameters() if p.dim() == 1 and "bias" not in n} == set()
    assert "network.head.bias" not in dict(part.named_parameters())
    assert "network.to_state.bias" not in dict(part.named_parameters())
    torchs = LSTMDecoderConfig(embedding=30, hidden=40, init_range=None, embedding_init_range=None).build(CONTEXT)
    assert float(torchs.network.embedding.weight.std()) == pytest.approx(1, abs=0.2)
    assert float(torchs.network.bottom.weight_hh_l0.abs().max()) == pytest.approx(40**-0.5, rel=0.05)


def test_defaults_are_those_of_the_paper() -> None:
    config = LSTMDecoderConfig()
    assert (config.embedding, config.hidden, config.layers) == (512, 1024, 1)
    assert (config.dropout_in, config.dropout_out, config.word_dropout) == (0.5, 0.5, 0.0)
    assert config.supports == {"tokens"}


@pytest.mark.parametrize(
    "data",
    [DataSpec((1, 8, 8), "binary"), DataSpec((4, 4), "tokens", vocabulary_size=5), DataSpec((4,), "tokens")],
)
def test_only_texts_are_taken(data: DataSpec) -> None:
    with pytest.raises(ShapeError, match=r"model\.decoder: it reads texts, data of shape \(T,\) .* another decoder"):
        LSTMDecoderConfig().build(BuildContext(data, (3,)))
