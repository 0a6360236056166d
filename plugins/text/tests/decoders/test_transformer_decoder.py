"""The transformer decoder against a computation by hand, and what its options do."""

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.testing import assert_close
from uncollapse.config import BuildContext
from uncollapse.errors import ShapeError
from uncollapse.protocols import DataSpec, SpecialTokens
from uncollapse_text.decoders import TokenIds, TransformerDecoder
from uncollapse_text.decoders.attention import sinusoids
from uncollapse_text.decoders.transformer import TransformerDecoderConfig

SPECIAL = SpecialTokens()
CONTEXT = BuildContext(DataSpec((5,), "tokens", vocabulary_size=7, special=SPECIAL), (3,))
OPTIONS: list[dict[str, Any]] = [
    {"latent": "both"},
    {"latent": "memory", "positions": "sinusoidal"},
    {"latent": "embedding", "tied": True},
]


def build(**options: Any) -> TransformerDecoder:
    part = TransformerDecoder((3,), 5, TokenIds(7, SPECIAL), 6, 3, 2, 10, **options).double().eval()
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.copy_(0.5 * torch.randn_like(parameter))
    return part


def norm(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    centred = x - x.mean()
    return centred / (centred.square().mean() + 1e-5).sqrt() * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]


def by_hand(part: TransformerDecoder, text: list[int], z: Tensor, heads: int = 3) -> Tensor:
    """``log p`` of one text, position by position and head by head."""
    network = part.network
    weights = dict(network.named_parameters())
    table, width = weights["embedding.weight"], 6
    stream = []
    for t, token in enumerate([1, *text[:-1]]):
        word = table[token] * (1 if "positions" in weights else math.sqrt(width)) + network.positions[t]
        stream.append(word + weights["to_embedding.weight"] @ z if "to_embedding.weight" in weights else word)
    for i in range(len(network.stack)):
        memory = []
        if "to_memory.weight" in weights:
            memory = [(weights["to_memory.weight"] @ z)[i * width : (i + 1) * width]]
        seen = [linear(norm(h, weights, f"stack.{i}.norm_attention"), weights, f"stack.{i}.project") for h in stream]
        keys, values = memory + [s[width : 2 * width] for s in seen], memory + [s[2 * width :] for s in seen]
        changed = []
        for t, h in enumerate(stream):
            found = []
            for head in torch.arange(width).chunk(heads):
                reach = range(t + 1 + len(memory))
                scores = torch.stack([seen[t][head] @ keys[j][head] for j in reach]) / math.sqrt(width / heads)
                found.append(sum(p * values[j][head] for p, j in zip(scores.softmax(0), reach, strict=True)))
            h = h + linear(torch.cat(found), weights, f"stack.{i}.attended")
            inner = linear(norm(h, weights, f"stack.{i}.norm_linear"), weights, f"stack.{i}.widen")
            inner = 0.5 * inner * (1 + torch.erf(inner / math.sqrt(2)))
            changed.append(h + linear(inner, weights, f"stack.{i}.narrow"))
        stream = changed
    total = torch.zeros(()).double()
    for h, token in zip(stream, text, strict=True):
        scores = norm(h, weights, "norm") @ weights.get("head.weight", table.T)
        total = total + scores[token] - scores[2:].exp().sum().log()
    return total


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: o["latent"])
def test_log_prob_is_what_one_writes_by_hand(options: dict[str, Any]) -> None:
    part, z = build(**options), torch.randn(2, 3).double()
    texts = [[4, 5, 6, 2], [6, 3, 2]]
    found = part(z).log_prob(torch.tensor([[4, 5, 6, 2], [6, 3, 2, 0]]))
    assert_close(found, torch.stack([by_hand(part, t, row) for t, row in zip(texts, z, strict=True)]))


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: o["latent"])
def test_words_are_embedded_once_for_all_latents(options: dict[str, Any]) -> None:
    part, rows = build(**options), []
    part.network.embedding.register_forward_hook(lambda _, __, found: rows.append(tuple(found.shape)))
    part(torch.randn(5, 2, 3).double()).log_prob(torch.tensor([[4, 5, 6, 2], [6, 3, 2, 0]]))
    assert rows == [(2, 4, 6)]


def test_tied_weights_are_one_parameter() -> None:
    tied, free = build(latent="memory", tied=True), build(latent="memory")
    names = {n for n, _ in free.named_parameters()} - {n for n, _ in tied.named_parameters()}
    assert names == {"network.head.weight"}
    # Without special tokens the embedding has two more rows, which are no tokens.
    p_x = TransformerDecoder((3,), 5, TokenIds(7), 6, 3, 1, tied=True)(torch.randn(2, 3))
    assert int(p_x.sample((200,)).max()) == 6


@torch.no_grad()
def test_sines_tell_positions_apart() -> None:
    found = sinusoids(50, 8)
    assert_close(found[:, 0], torch.arange(50).sin())
    assert_close(found[3, 4:], torch.tensor([math.cos(3 * 10_000 ** (-2 * i / 8)) for i in range(4)]))
    assert float(torch.cdist(found, found).fill_diagonal_(9).min()) > 0.3


@torch.no_grad()
def test_initialization() -> None:
    part = TransformerDecoder((32,), 20, TokenIds(500, SPECIAL), 64, 4, 8)
    expected = {"attended.weight": 0.02 / 4, "narrow.weight": 0.02 / 4}
    for name, parameter in part.named_parameters():
        if name.endswith("bias"):
            assert not bool(parameter.any()), name
        elif "norm" in name:
            assert bool((parameter == 1).all()), name
        else:
            std = expected.get(".".join(name.split(".")[-2:]), 0.02)
            assert float(parameter.std()) == pytest.approx(std, rel=0.1), name


def test_dropout_in_training_only() -> None:
    part, z, x = build(dropout=0.3), torch.randn(2, 3).double(), torch.tensor([[4, 5, 2], [6, 3, 2]])
    assert torch.equal(part(z).log_prob(x), part(z).log_prob(x))
    part.train()
    assert not torch.allclose(part(z).log_prob(x), part(z).log_prob(x))
    for module in part.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    assert_close(part(z).log_prob(x), part.eval()(z).log_prob(x))


def test_widths_that_do_not_fit() -> None:
    with pytest.raises(ShapeError, match="expected an even multiple of heads = 4, found 30; try 32"):
        TransformerDecoder((3,), 5, TokenIds(7), 30, 4)
    with pytest.raises(ValidationError, match="width must be an even multiple of heads = 3, found 16"):
        TransformerDecoderConfig(width=16, heads=3)
    with pytest.raises(ShapeError, match=r"model\.decoder: it reads texts"):
        TransformerDecoderConfig().build(BuildContext(DataSpec((1, 8, 8), "binary"), (3,)))
