"""Perplexity against closed forms, its error against the spread over data sets, and its counts."""

import math

import pytest
import torch
from uncollapse import Batch
from uncollapse.config import BuildContext
from uncollapse.distributions import analytic_kl
from uncollapse.errors import ConfigError, ShapeError
from uncollapse.estimators import importance_weighted_nll
from uncollapse.model import LatentVariableModel
from uncollapse.posteriors.gaussian import GaussianPosteriorConfig
from uncollapse.priors.standard_normal import StandardNormalPriorConfig
from uncollapse.protocols import DataSpec, SpecialTokens
from uncollapse_text.decoders.lstm import LSTMDecoderConfig
from uncollapse_text.encoders.lstm import LSTMEncoderConfig
from uncollapse_text.estimators import Perplexity, perplexity
from uncollapse_text.estimators.perplexity import PerplexityConfig

SPECIAL = SpecialTokens()
CONTEXT = BuildContext(DataSpec((6,), "tokens", vocabulary_size=9, special=SPECIAL), (2,), (5,))
TEXTS = torch.tensor([[4, 5, 6, 2, 0, 0], [7, 2, 0, 0, 0, 0], [8, 8, 8, 8, 8, 2], [3, 4, 2, 0, 0, 0]])
COUNTS = torch.tensor([4.0, 2.0, 6.0, 3.0]).double()


def text_model() -> LatentVariableModel:
    return LatentVariableModel(
        LSTMEncoderConfig(embedding=4, hidden=5, init_range=0.8).build(CONTEXT),
        GaussianPosteriorConfig(latent_dim=2).build(CONTEXT),
        StandardNormalPriorConfig().build(CONTEXT),
        LSTMDecoderConfig(embedding=4, hidden=6, init_range=0.8).build(CONTEXT),
    ).double().eval()  # fmt: skip


def batches_of_two():
    """The same texts, each batch as wide as its longest."""
    yield Batch(TEXTS[:2, :4])
    yield Batch(TEXTS[2:])


def test_perplexity_of_a_uniform_model_is_the_number_of_tokens() -> None:
    model = text_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    # Padding and start are never next, which leaves 7 of the 9 ids; with q = p every weight is p(x).
    found = Perplexity(SPECIAL, samples=3)(model, batches_of_two)
    for name in ("perplexity", "perplexity_elbo"):
        assert found[name].value == pytest.approx(7)
        assert found[name].standard_error == pytest.approx(0, abs=1e-6)
        assert (found[name].count, found[name].unit) == (4, "perplexity")
    assert found["nll"].value == pytest.approx(math.log(7) * 15 / 4)
    assert (found["tokens_per_text"].value, found["tokens_per_text"].unit) == (15 / 4, "tokens")
    assert "15 tokens" in found["perplexity"].note


def test_both_kinds_are_what_their_definitions_say() -> None:
    model = text_model()
    torch.manual_seed(3)
    found = Perplexity(SPECIAL, samples=40)(model, lambda: [Batch(TEXTS)])
    torch.manual_seed(3)
    with torch.no_grad():
        q, p_z = model.infer(TEXTS), model.p_z()
        z = q.rsample((40,))
        log_p_x = model.generate(z).log_prob(TEXTS)
        nll = importance_weighted_nll(log_p_x + p_z.log_prob(z) - q.log_prob(z))
        bound = analytic_kl(q, p_z) - log_p_x.mean(0)
    assert found["perplexity"].value == pytest.approx((nll.sum() / 15).exp().item(), rel=1e-9)
    assert found["perplexity_elbo"].value == pytest.approx((bound.sum() / 15).exp().item(), rel=1e-9)
    assert found["nll"].value == pytest.approx(nll.mean().item(), rel=1e-9)
    assert found["perplexity"].value < found["perplexity_elbo"].value


def test_width_of_batches_changes_nothing_but_the_draws() -> None:
    model = text_model()
    with torch.no_grad():
        model.posterior.head.weight.zero_()
        model.posterior.head.bias.copy_(torch.tensor([0.3, -0.2, -40.0, -40.0]))
    # The posterior is one point, so that no draw matters.
    together = Perplexity(SPECIAL, samples=2)(model, lambda: [Batch(TEXTS)])
    apart = Perplexity(SPECIAL, samples=2, memory="10 KB")(model, batches_of_two)
    for name in ("perplexity_elbo", "tokens_per_text"):
        assert apart[name].value == pytest.approx(together[name].value, rel=1e-7)


def test_standard_error_is_the_spread_over_data_sets() -> None:
    sets, texts = 4000, 60
    tokens = torch.randint(2, 15, (sets, texts)).double()
    nats = tokens * 1.5 + 3 + tokens.sqrt() * torch.randn(sets, texts, dtype=torch.float64)
    measured = [perplexity(n, t) for n, t in zip(nats, tokens, strict=True)]
    spread = torch.tensor([m.value for m in measured]).std().item()
    stated = torch.tensor([m.standard_error for m in measured]).mean().item()
    # The spread of 4000 is known to about 1 %; the delta method leaves out terms of order 1 / texts.
    assert stated == pytest.approx(spread, rel=0.05)
    # The error of the mean nats alone would be far off: long texts have more nats, and more tokens.
    naive = measured[0].value * (nats[0].std() / texts**0.5 / tokens[0].mean()).item()
    assert naive > 1.5 * spread


def test_one_text_has_no_error() -> None:
    found = perplexity(torch.tensor([6.0]).double(), torch.tensor([3]))
    assert (found.value, found.standard_error) == (pytest.approx(math.exp(2)), None)


def test_every_token_counts_without_special_ones() -> None:
    found = Perplexity(None, samples=2)
    context = BuildContext(DataSpec((6,), "tokens", vocabulary_size=9), (2,), (5,))
    assert PerplexityConfig(samples=2).build(context).special is None
    model = LatentVariableModel(
        LSTMEncoderConfig(embedding=4, hidden=5).build(context),
        GaussianPosteriorConfig(latent_dim=2).build(context),
        StandardNormalPriorConfig().build(context),
        LSTMDecoderConfig(embedding=4, hidden=6).build(context),
    )
    assert found(model, lambda: [Batch(TEXTS)])["tokens_per_text"].value == 6


def test_shapes_that_do_not_belong_together() -> None:
    with pytest.raises(ShapeError, match=r"expected nats and tokens \[N\], found \(3,\) and \(2,\)"):
        perplexity(torch.ones(3), torch.ones(2))


def test_images_have_no_tokens() -> None:
    with pytest.raises(ConfigError, match="a likelihood per token, but the data are binary"):
        PerplexityConfig().build(BuildContext(DataSpec((1, 4, 4), "binary")))
