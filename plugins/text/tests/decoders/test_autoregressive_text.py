"""Texts as a distribution: it normalises, samples follow it, batches broadcast, padding is nothing, and decoding that
keeps its state gives what reading every prefix anew gives. Both decoders, and a network of a stranger's.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Size, Tensor, nn
from torch.testing import assert_close
from uncollapse.errors import ConfigError, ShapeError
from uncollapse.protocols import SpecialTokens
from uncollapse_text.decoders import AutoregressiveText, LSTMDecoder, TokenIds, TransformerDecoder, WordDropout
from uncollapse_text.decoders.text_search import draw_from

SPECIAL = SpecialTokens()
# Ids in no natural order, as another tokenizer may have them.
SHUFFLED = SpecialTokens(padding=5, start=2, end=0, unknown=3)
BUILD: dict[str, Callable[[TokenIds, int], nn.Module]] = {
    "lstm": lambda ids, length: LSTMDecoder((3,), length, ids, 5, 6, 2, init_range=1.2, embedding_init_range=1.5),
    "transformer": lambda ids, length: TransformerDecoder((3,), length, ids, 8, 2, 2),
    "memory": lambda ids, length: TransformerDecoder(
        (3,), length, ids, 8, 4, 1, latent="memory", positions="sinusoidal"
    ),
    "embedding": lambda ids, length: TransformerDecoder((3,), length, ids, 8, 2, 2, 12, latent="embedding", tied=True),
}
ALL = sorted(BUILD)


def decoder(name: str, length: int = 5, size: int = 7, special: SpecialTokens | None = SPECIAL) -> nn.Module:
    """A small decoder in float64 whose probabilities are far from uniform."""
    built = BUILD[name](TokenIds(size, special), length).double().eval()
    if name != "lstm":
        with torch.no_grad():
            for parameter in built.parameters():
                parameter.copy_(torch.randn_like(parameter) * 0.45)
    return built


def latents(*leading: int) -> Tensor:
    return torch.randn(*leading, 3, dtype=torch.float64)


def all_texts(size: int, length: int, special: SpecialTokens | None) -> Tensor:
    """Every text, those included that are cut off by the length."""
    rows = torch.tensor(list(itertools.product(range(size), repeat=length)))
    if special is None:
        return rows
    kept = []
    for row in rows.tolist():
        cut = row.index(special.end) if special.end in row else length
        words, rest = row[:cut], row[cut + 1 :]
        if not {special.padding, special.start} & set(words) and all(t == special.padding for t in rest):
            kept.append(row)
    return torch.tensor(kept)


def padded(texts: list[list[int]], width: int, special: SpecialTokens = SPECIAL) -> Tensor:
    return torch.tensor([t + [special.padding] * (width - len(t)) for t in texts])


class Rerun:
    """Reads every prefix anew: what an incremental state has to agree with."""

    def __init__(self, network: Any, conditioning: Tensor) -> None:
        self.network, self.conditioning = network, conditioning
        self.prefix = torch.empty(len(conditioning), 0, dtype=torch.long)

    def step(self, tokens: Tensor) -> Tensor:
        self.prefix = torch.cat([self.prefix, tokens[:, None]], 1)
        return self.network.teacher_forced(self.prefix, self.conditioning)[:, -1]

    def reorder(self, rows: Tensor) -> None:
        self.prefix, self.conditioning = self.prefix[rows], self.conditioning[rows]


class Rereading:
    """A network whose decoding keeps nothing."""

    def __init__(self, network: Any) -> None:
        self.network, self.vocabulary_size = network, network.vocabulary_size

    def teacher_forced(self, tokens: Tensor, conditioning: Tensor) -> Tensor:
        return self.network.teacher_forced(tokens, conditioning)

    def incremental(self, conditioning: Tensor) -> Rerun:
        return Rerun(self.network, conditioning)


def rereading(p_x: AutoregressiveText) -> AutoregressiveText:
    return AutoregressiveText(
        Rereading(p_x._network), p_x._conditioning, p_x.batch_shape, p_x.event_shape, p_x._start, p_x._special
    )


# ------------------------------------------------------------------------------------------------------------- density


@pytest.mark.parametrize("special", [None, SPECIAL, SHUFFLED])
@pytest.mark.parametrize("name", ALL)
def test_probabilities_of_all_texts_sum_to_one(name: str, special: SpecialTokens | None) -> None:
    size = 3 if special is None else 6
    texts = all_texts(size, 3, special)
    # 1 ended at once, 3 after a word, 9 after two; 27 go on. Words are all but padding, start and end.
    assert len(texts) == (27 if special is None else 1 + 3 + 9 + 27)
    p_x = decoder(name, 3, size, special)(latents(4))
    log_p = p_x.log_prob(texts[:, None])
    assert log_p.shape == (len(texts), 4)
    assert_close(log_p.exp().sum(0), torch.ones(4).double())
    assert log_p.std() > 0.3


@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_samples_follow_the_probabilities(name: str) -> None:
    p_x = decoder(name, 3, 6)(latents(2))
    texts = all_texts(6, 3, SPECIAL)
    count = 8000
    samples = p_x.sample((count,))
    assert samples.shape == (count, 2, 3)
    assert not samples.requires_grad
    observed = (samples[:, :, None] == texts).all(-1).sum(0)
    assert bool((observed.sum(1) == count).all())
    expected = count * p_x.log_prob(texts[:, None]).exp().T.detach()
    likely = expected > 5
    chi_square = torch.where(likely, (observed - expected).square() / expected, 0.0).sum(1)
    assert int(likely.sum(1).min()) > 10
    assert float(chi_square.max()) < 76  # the 0.9999 quantile with 39 degrees of freedom


@pytest.mark.parametrize("name", ALL)
def test_latents_and_texts_broadcast_like_a_loop(name: str) -> None:
    part, z = decoder(name), latents(4, 3)
    x = all_texts(7, 4, SPECIAL)[[3, 50, 200]]
    p_x = part(z)
    apart = torch.stack([torch.stack([part(z[s, b]).log_prob(x[b]) for b in range(3)]) for s in range(4)])
    assert_close(p_x.log_prob(x), apart)
    assert_close(p_x.log_prob(x.expand(4, 3, 4)), apart)
    assert_close(p_x.log_prob(x[1]), torch.stack([part(row).log_prob(x[1:2].expand(3, -1)) for row in z]))
    assert_close(p_x.log_prob(x[:, None, None])[2], p_x.log_prob(x[2]))
    assert_close(part(z[:, :1]).expand((4, 3)).log_prob(x), part(z[:, :1]).log_prob(x))
    assert_close(p_x.token_log_prob(x).sum(-1), apart)


@pytest.mark.parametrize("name", ALL)
def test_padding_changes_neither_likelihood_nor_gradient(name: str) -> None:
    part = decoder(name, 8).float()
    texts = [[4, 5, 6, 2], [6, 2], [3, 3, 4, 5, 6, 6, 4, 2]]
    z = latents(3).float()
    gradients = []
    for batches in ([padded(texts, 8)], [torch.tensor([t]) for t in texts]):
        part.zero_grad()
        log_p = torch.cat(
            [part(row).log_prob(x) for row, x in zip(z.split([len(b) for b in batches]), batches, strict=True)]
        )
        log_p.sum().backward()
        gradients.append((log_p.detach(), *(p.grad for p in part.parameters())))
    for together, apart in zip(*gradients, strict=True):
        assert_close(together, apart, rtol=1e-5, atol=1e-5)
    assert bool((part(z).token_log_prob(padded(texts, 8)) != 0).sum(1).eq(torch.tensor([4, 2, 8])).all())


def test_texts_that_do_not_fit() -> None:
    p_x = decoder("lstm")(latents(2))
    with pytest.raises(ShapeError, match=r"texts of 1 to 5 tokens, found \(2, 6\)"):
        p_x.log_prob(torch.zeros(2, 6, dtype=torch.long))
    with pytest.raises(ShapeError, match=r"found \(2, 0\)"):
        p_x.log_prob(torch.zeros(2, 0, dtype=torch.long))


# ------------------------------------------------------------------------------------------------------------ decoding


@pytest.mark.parametrize("special", [None, SPECIAL])
@pytest.mark.parametrize("name", ALL)
def test_steps_give_the_logits_of_the_whole_pass(name: str, special: SpecialTokens | None) -> None:
    network = decoder(name, special=special).network
    ids = TokenIds(7, special)
    tokens, z = torch.cat([torch.full((4, 1), ids.start), torch.randint(3, 7, (4, 4))], 1), latents(4)
    state = network.incremental(z)
    with torch.no_grad():
        for t in range(5):
            assert_close(state.step(tokens[:, t]), network.teacher_forced(tokens, z)[:, t])
            # Texts change places, and some are taken twice: as the hypotheses of a beam.
            rows = torch.tensor([[0, 1, 2, 3], [3, 3, 0, 1], [1, 0, 2, 2], [2, 1, 1, 0], [0, 1, 2, 3]][t])
            state.reorder(rows)
            tokens, z = tokens[rows], z[rows]


@pytest.mark.parametrize("special", [None, SHUFFLED])
@pytest.mark.parametrize("name", ALL)
def test_the_same_noise_gives_the_same_tokens_as_rereading(name: str, special: SpecialTokens | None) -> None:
    p_x = decoder(name, 9, special=special)(latents(3, 20))
    drawn = []
    for p in (p_x, rereading(p_x)):
        torch.manual_seed(4)
        drawn.append([p.sample((2,)), p.decode("sample", temperature=0.7), p.decode("beam"), p.decode()])
    for kept, anew in zip(*drawn, strict=True):
        assert torch.equal(kept, anew)
    assert drawn[0][0].shape == (2, 3, 20, 9)
    assert len(drawn[0][0].flatten(0, 2).unique(dim=0)) > 30


@pytest.mark.parametrize("special", [None, SPECIAL])
@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_a_wide_beam_finds_the_likeliest_text(name: str, special: SpecialTokens | None) -> None:
    size = 3 if special is None else 6
    p_x = decoder(name, 4, size, special)(latents(3, 10))
    texts = all_texts(size, 4, special)
    log_p = p_x.log_prob(texts[:, None, None])
    best = log_p.max(0)
    assert torch.equal(p_x.decode("beam", beam_size=len(texts)), texts[best.indices])
    # Narrower ones are no better, and one as narrow as can be is greedy.
    narrow, greedy = p_x.decode("beam", beam_size=2), p_x.decode("greedy")
    assert torch.equal(p_x.decode("beam", beam_size=1), greedy)
    assert bool((p_x.log_prob(narrow) <= best.values + 1e-9).all())
    if special is not None:
        assert bool((p_x.log_prob(greedy) < best.values - 1e-9).any())


def test_a_hypothesis_that_has_ended_keeps_its_score() -> None:
    # From the start: end (0.4), a (0.35), b (0.25). After a: b surely, then the end surely. After b: end surely.
    rows = {1: {2: 0.4, 4: 0.35, 5: 0.25}, 4: {5: 1.0}, 5: {2: 1.0}}
    p_x = bigrams(rows, length=3)
    assert p_x.decode("beam", beam_size=3).tolist() == [[2, 0, 0]]
    # Were the first 0.34, the text of three tokens would win, whose score of 0.35 stays below all others until then.
    rows[1] = {2: 0.34, 4: 0.36, 5: 0.3}
    assert bigrams(rows, length=3).decode("beam", beam_size=3).tolist() == [[4, 5, 2]]


def test_greedy_takes_the_likeliest_token_each_time() -> None:
    p_x = decoder("lstm")(latents(12))
    texts = p_x.decode("greedy")
    for n, text in enumerate(texts):
        end = (text == SPECIAL.end).nonzero()
        for t in range(int(end[0]) + 1 if len(end) else 5):
            others = text.repeat(7, 1)
            others[:, t] = torch.arange(7)
            scores = decoder_row(p_x, n).token_log_prob(others)[:, t].masked_fill(torch.arange(7) < 2, -math.inf)
            assert int(scores.argmax()) == int(text[t])
    assert bool((texts == SPECIAL.padding).any())


def decoder_row(p_x: AutoregressiveText, n: int) -> AutoregressiveText:
    return AutoregressiveText(p_x._network, p_x._conditioning[n], Size(()), p_x.event_shape, p_x._start, p_x._special)


def test_temperature_sharpens() -> None:
    p_x = decoder("lstm")(latents(30))
    assert torch.equal(p_x.decode("sample", temperature=1e-6), p_x.decode("greedy"))
    torch.manual_seed(1)
    plain = p_x.sample()
    torch.manual_seed(1)
    assert torch.equal(p_x.decode("sample", temperature=1.0), plain)
    hot, cold = (p_x.log_prob(p_x.decode("sample", temperature=t)).mean() for t in (2.0, 0.5))
    warm = p_x.log_prob(plain).mean()
    assert bool(cold > warm)
    assert bool(warm > hot)


def test_texts_may_be_kept_short() -> None:
    p_x = decoder("transformer")(latents(2, 3))
    whole = p_x.decode("greedy")
    assert torch.equal(p_x.decode("greedy", max_length=2), whole[..., :2])
    assert p_x.decode("beam", max_length=3).shape == (2, 3, 3)


@pytest.mark.parametrize("method", ["greedy", "beam", "sample"])
def test_progress_is_told_up_to_one(method: Any) -> None:
    told: list[float] = []
    decoder("lstm", special=None)(latents(2)).decode(method, progress=told.append)
    assert told == [0.2, 0.4, 0.6, 0.8, 1.0]
    told.clear()
    # Where all texts end at once, so does decoding.
    p_x = bigrams({1: {2: 1.0}}, length=5)
    assert p_x.decode(method, progress=told.append).tolist() == [[2, 0, 0, 0, 0]]
    assert told == [1.0]
    told.clear()
    p_x.sample(progress=told.append)
    assert told == [1.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "best"}, "method: expected 'greedy', 'beam' or 'sample', found 'best'"),
        ({"max_length": 6}, "max_length: expected 1 to 5, what the decoder is for, found 6"),
        ({"max_length": 0}, "max_length: expected 1 to 5"),
        ({"beam_size": 0}, "beam_size: expected at least 1, found 0"),
        ({"temperature": 0.0}, "temperature: expected more than 0, found 0"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        decoder("lstm")(latents(2)).decode(**arguments)


@pytest.mark.parametrize("name", ALL)
def test_half_precision(name: str) -> None:
    part, z = decoder(name).float(), latents(2, 3).float()
    with torch.autocast("cpu", torch.bfloat16):
        p_x = part(z)
        texts = [p_x.sample(), p_x.decode("beam"), p_x.decode()]
        log_p = p_x.log_prob(texts[0][0])
    assert log_p.dtype == torch.float32
    assert_close(log_p, part(z).log_prob(texts[0][0]), rtol=0.1, atol=0.3)
    assert [t.shape for t in texts] == [(2, 3, 5)] * 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch finds none")
@pytest.mark.parametrize("name", ALL)
def test_a_gpu_gives_the_same(name: str) -> None:
    part, z, x = decoder(name), latents(4, 3), all_texts(7, 4, SPECIAL)[[3, 50, 200]]
    found = []
    for device in ("cpu", "cuda"):
        p_x = part.to(device)(z.to(device))
        texts = [p_x.decode("greedy"), p_x.decode("beam")]
        found.append((p_x.log_prob(x.to(device)).cpu(), *(t.cpu() for t in texts)))
    assert_close(found[1][0], found[0][0])
    for there, here in zip(found[1][1:], found[0][1:], strict=True):
        assert torch.equal(there, here)
    assert bool(p_x.log_prob(p_x.sample()).isfinite().all())


# ------------------------------------------------------------------------------------------------- a stranger's network


class Bigrams:
    """Logits of the next token by the last one, the same for every latent."""

    def __init__(self, table: Tensor) -> None:
        self.table, self.vocabulary_size = table, table.shape[1]

    def teacher_forced(self, tokens: Tensor, conditioning: Tensor) -> Tensor:
        return self.table[tokens].repeat(len(conditioning) // len(tokens), 1, 1)

    def incremental(self, conditioning: Tensor) -> "Bigrams":
        return Bigrams(self.table)

    def step(self, tokens: Tensor) -> Tensor:
        return self.table[tokens]

    def reorder(self, rows: Tensor) -> None:
        pass


def bigrams(rows: dict[int, dict[int, float]], length: int) -> AutoregressiveText:
    table = torch.full((6, 6), -math.inf, dtype=torch.float64)
    # What a text never comes to must have probabilities too.
    table[:, SPECIAL.end] = 0.0
    for token, following in rows.items():
        for other in range(6):
            table[token, other] = math.log(following[other]) if other in following else -math.inf
    return AutoregressiveText(Bigrams(table), torch.zeros(1, 2), Size((1,)), Size((length,)), SPECIAL.start, SPECIAL)


def test_a_strangers_network_has_densities_and_samples() -> None:
    p_x = bigrams({1: {2: 0.2, 4: 0.8}, 4: {4: 0.5, 2: 0.5}}, length=3)
    texts = padded([[2], [4, 2], [4, 4, 2], [4, 4, 4]], 3)
    assert_close(p_x.log_prob(texts).exp(), torch.tensor([0.2, 0.4, 0.2, 0.2], dtype=torch.float64))
    drawn = p_x.sample((4000,))[:, 0]
    shares = (drawn[:, None] == texts).all(-1).double().mean(0)
    assert_close(shares, torch.tensor([0.2, 0.4, 0.2, 0.2], dtype=torch.float64), rtol=0, atol=0.03)
    with pytest.raises(NotImplementedError):
        p_x.mean  # noqa: B018 - reading it is the test
    assert bool(p_x.support.check(drawn).all())
    assert not bool(p_x.support.check(torch.tensor([6, 2, 0])))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_follow_the_softmax_and_never_hit_what_is_impossible(dtype: torch.dtype) -> None:
    logits = torch.tensor([-math.inf, 0.5, -1.0, -math.inf, 2.0, -math.inf], dtype=dtype)
    drawn = draw_from(1.0)(logits.expand(200_000, -1))
    shares = torch.bincount(drawn, minlength=6) / 200_000
    assert_close(shares, logits.softmax(0).float(), rtol=0, atol=0.006)
    assert bool((shares[logits == -math.inf] == 0).all())


def test_the_last_possible_token_is_where_rounding_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.tensor([[0.3, 0.1, 0.7, -math.inf]])
    monkeypatch.setattr(torch, "rand_like", torch.ones_like)
    assert draw_from(1.0)(logits).tolist() == [2]
    monkeypatch.setattr(torch, "rand_like", torch.zeros_like)
    assert draw_from(1.0)(logits.flip(1)).tolist() == [1]


# -------------------------------------------------------------------------------------------------------- word dropout


def test_word_dropout_replaces_words_in_training_only() -> None:
    drop = WordDropout(TokenIds(9, SPECIAL), 0.3)
    tokens = torch.cat([torch.full((200, 1), SPECIAL.start), torch.randint(4, 9, (200, 50))], 1)
    found = drop(tokens)
    changed = found != tokens
    assert float(changed[:, 1:].float().mean()) == pytest.approx(0.3, abs=0.02)
    assert bool((found[changed] == SPECIAL.unknown).all())
    assert not bool(changed[:, 0].any())
    assert torch.equal(drop.eval()(tokens), tokens)


@pytest.mark.parametrize("special", [None, SPECIAL])
@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_a_decoder_without_words_depends_on_the_latent_alone(name: str, special: SpecialTokens | None) -> None:
    part, z = decoder(name, special=special), latents(2)
    part.network.word_dropout.rate = 1.0
    for module in part.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    x = torch.tensor([[4, 5, 6, 4], [5, 5, 4, 6]])
    other = torch.tensor([[6, 4, 6, 4], [4, 6, 4, 6]])
    here, there = part(z).token_log_prob(x), part(z).token_log_prob(other)
    assert not torch.allclose(here[:, 2:], there[:, 2:])
    part.train()
    here, there = part(z).token_log_prob(x), part(z).token_log_prob(other)
    assert_close(here[0, 2:], there[0, 2:])
    assert_close(here[1, 3:], there[1, 3:])
    assert not torch.allclose(here, part(latents(2)).token_log_prob(x))
