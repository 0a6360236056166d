"""Likelihoods against torch's distributions and by total probability."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.distributions import Bernoulli, Categorical, Independent, Normal
from torch.testing import assert_close
from uncollapse.config import BuildContext
from uncollapse.likelihoods import (
    BernoulliLikelihood,
    BernoulliPixels,
    CategoricalLikelihood,
    CategoricalPixels,
    GaussianLikelihood,
)
from uncollapse.likelihoods.likelihoods import (
    BernoulliLikelihoodConfig,
    CategoricalLikelihoodConfig,
    GaussianLikelihoodConfig,
)
from uncollapse.protocols import DataSpec

S, B, EVENT = 2, 3, (2, 4, 5)
AXES = len(EVENT)


def outputs(per_value: int = 1) -> torch.Tensor:
    return 2 * torch.randn(S, B, per_value * EVENT[0], *EVENT[1:], dtype=torch.float64)


# ----------------------------------------------------------------------------------------------------------- Bernoulli


def bernoulli() -> tuple[BernoulliPixels, Independent]:
    logits = outputs()
    return BernoulliLikelihood(EVENT)(logits), Independent(Bernoulli(logits=logits), AXES)


def test_bernoulli_is_torch_s() -> None:
    ours, torchs = bernoulli()
    x = (torch.rand(B, *EVENT) > 0.5).double()
    assert ours.batch_shape == (S, B)
    assert ours.event_shape == EVENT
    assert_close(ours.log_prob(x), torchs.log_prob(x))
    assert_close(ours.mean, torchs.mean)
    assert_close(ours.variance, torchs.variance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bernoulli_density_without_gradients_is_the_same(dtype: torch.dtype) -> None:
    # Logits as of a trained model: 784 pixels, most of them sure, a few surely wrong.
    logits = 8 * torch.randn(5, 3, 1, 28, 28, dtype=torch.float64)
    x = torch.where(torch.rand(3, 1, 28, 28) < 0.02, logits[0] < 0, logits[0] > 0).double()
    logits = (logits[:1] + 0.3 * torch.randn_like(logits)).clamp(-60, 60)
    truth = Independent(Bernoulli(logits=logits), AXES).log_prob(x)
    wanted = BernoulliPixels(logits.to(dtype).requires_grad_(), AXES).log_prob(x)
    found = BernoulliPixels(logits.to(dtype), AXES).log_prob(x)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    assert_close(found.double(), truth, rtol=0, atol=tolerance)
    assert_close(wanted.double(), truth, rtol=0, atol=tolerance)
    # Data with more dimensions than the distribution, and grey values.
    one, many = BernoulliPixels(logits[0, 0].to(dtype), AXES), torch.rand(4, 1, 28, 28, dtype=dtype)
    assert_close(one.log_prob(many), torch.stack([one.log_prob(grey) for grey in many]))


def test_bernoulli_probabilities_sum_to_one() -> None:
    p = BernoulliPixels(torch.randn(4, dtype=torch.float64) * 3, event_dim=1)
    everything = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4)), dtype=torch.float64)
    assert_close(p.log_prob(everything).exp().sum(), torch.tensor(1.0).double())


def test_bernoulli_of_grey_values_is_the_expected_log_prob() -> None:
    ours, torchs = bernoulli()
    x = torch.rand(B, *EVENT).double()
    log_p, log_not_p = torchs.mean.log(), (1 - torchs.mean).log()
    assert_close(ours.log_prob(x), (x * log_p + (1 - x) * log_not_p).sum((-3, -2, -1)))


def test_bernoulli_is_exact_at_large_logits() -> None:
    p = BernoulliPixels(torch.tensor([200.0, -200.0, 200.0]), event_dim=1)
    assert_close(p.log_prob(torch.tensor([1.0, 0.0, 1.0])), torch.tensor(0.0))
    assert_close(p.log_prob(torch.tensor([0.0, 0.0, 1.0])), torch.tensor(-200.0))


def test_bernoulli_samples() -> None:
    ours, _ = bernoulli()
    x = ours.sample((7,))
    assert x.shape == (7, S, B, *EVENT)
    assert bool(ours.support.check(x).all())
    many = BernoulliPixels(torch.tensor([-1.0, 0.0, 2.0]), 1).sample((20_000,)).mean(0)
    assert_close(many, torch.tensor([-1.0, 0.0, 2.0]).sigmoid(), rtol=0, atol=0.02)


# ------------------------------------------------------------------------------------------------------------ Gaussian


@pytest.mark.parametrize("scale", ["learned", "per_value", 0.3])
def test_gaussian_is_torch_s(scale: Any) -> None:
    likelihood = GaussianLikelihood(EVENT, scale).double()
    raw = outputs(likelihood.outputs_per_value)
    if scale == "learned":
        assert isinstance(likelihood.logvar, nn.Parameter)
        likelihood.logvar.data.fill_(0.7)
        mean, deviation = raw, torch.tensor(0.35).double().exp().expand_as(raw)
    elif scale == "per_value":
        mean, logvar = raw.chunk(2, dim=2)
        deviation = (0.5 * logvar).exp()
    else:
        mean, deviation = raw, torch.full_like(raw, 0.3)
    x = torch.randn(B, *EVENT).double()
    p = likelihood(raw)
    assert p.event_shape == EVENT
    expected = Independent(Normal(mean, deviation), AXES).log_prob(x)
    # The fixed scale's logarithm is kept in float32.
    assert_close(p.log_prob(x), expected, rtol=1e-6 if scale == 0.3 else 1e-12, atol=1e-6)


@pytest.mark.parametrize(("scale", "parameters"), [("learned", 1), ("per_value", 0), (0.3, 0)])
def test_only_a_learned_scale_is_a_parameter(scale: Any, parameters: int) -> None:
    likelihood = GaussianLikelihood(EVENT, scale)
    assert len(list(likelihood.parameters())) == parameters
    assert len(likelihood.state_dict()) == (0 if scale == "per_value" else 1)


@pytest.mark.parametrize("scale", ["learned", "per_value"])
def test_scale_is_clipped_from_below(scale: Any) -> None:
    likelihood = GaussianLikelihood(EVENT, scale, min_scale=0.1)
    raw = torch.full((1, likelihood.outputs_per_value * EVENT[0], *EVENT[1:]), -100.0)
    if likelihood.logvar is not None:
        likelihood.logvar.data.fill_(-100.0)
    assert_close(likelihood(raw).stddev, torch.full((1, *EVENT), 0.1))


# --------------------------------------------------------------------------------------------------------- categorical


def test_categorical_is_torch_s() -> None:
    levels = 6
    raw = outputs(levels)
    p = CategoricalLikelihood(EVENT, levels)(raw)
    assert p.batch_shape == (S, B)
    assert p.event_shape == EVENT
    # The numbers for one value are blocks of C channels: [levels, C, *rest].
    logits = raw.reshape(S, B, levels, *EVENT).movedim(2, -1)
    k = torch.randint(0, levels, (B, *EVENT))
    assert_close(p.log_prob(k.double() / (levels - 1)), Independent(Categorical(logits=logits), AXES).log_prob(k))


def test_categorical_probabilities_sum_to_one_over_bytes() -> None:
    p = CategoricalPixels(torch.randn(1, 256, dtype=torch.float64), event_dim=1)
    grid = torch.arange(256, dtype=torch.float64)[:, None] / 255
    assert_close(p.log_prob(grid).exp().sum(), torch.tensor(1.0).double())


def test_bytes_divided_by_255_in_float32_find_their_level() -> None:
    p = CategoricalPixels(torch.randn(1, 256), event_dim=1)
    grid = torch.arange(256, dtype=torch.uint8).float()[:, None] / 255
    assert_close(p.log_prob(grid), p.logits[0])


def test_categorical_moments_and_samples() -> None:
    p = CategoricalPixels(torch.tensor([[0.0, 1.0, -1.0]]), event_dim=1)
    weights = torch.tensor([0.0, 1.0, -1.0]).softmax(0)
    assert_close(p.mean, weights[1:2] * 0.5 + weights[2:3])
    x = p.sample((20_000,))
    assert x.shape == (20_000, 1)
    assert set(x.unique().tolist()) == {0.0, 0.5, 1.0}
    assert bool(p.support.check(x).all())
    for level, value in enumerate((0.0, 0.5, 1.0)):
        assert_close((x == value).float().mean(), weights[level], rtol=0, atol=0.02)


def test_two_levels_are_a_bernoulli() -> None:
    logits = torch.randn(B, *EVENT, dtype=torch.float64)
    two = CategoricalPixels(torch.stack([torch.zeros_like(logits), logits], -1), AXES)
    x = (torch.rand(B, *EVENT) > 0.5).double()
    assert_close(two.log_prob(x), BernoulliPixels(logits, AXES).log_prob(x))


# ------------------------------------------------------------------------------------------------------------- in common


@pytest.mark.parametrize(
    "likelihood",
    [
        BernoulliLikelihood(EVENT),
        GaussianLikelihood(EVENT),
        GaussianLikelihood(EVENT, "per_value"),
        CategoricalLikelihood(EVENT, 4),
    ],
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_float32_nats(likelihood: Any, dtype: torch.dtype) -> None:
    raw = outputs(likelihood.outputs_per_value).to(dtype)
    p = likelihood(raw)
    assert p.log_prob(torch.zeros(B, *EVENT)).dtype == torch.float32
    expected = likelihood(raw.float()).log_prob(torch.zeros(B, *EVENT))
    assert_close(p.log_prob(torch.zeros(B, *EVENT)), expected)


@pytest.mark.parametrize("kind", ["bernoulli", "categorical"])
def test_expand(kind: str) -> None:
    raw = torch.randn(B, *EVENT)
    p: Any = BernoulliPixels(raw, AXES) if kind == "bernoulli" else CategoricalPixels(torch.randn(B, *EVENT, 3), AXES)
    x = (torch.rand(6, B, *EVENT) > 0.5).float()
    wide = p.expand((6, B))
    assert wide.batch_shape == (6, B)
    assert wide.event_shape == EVENT
    assert wide.sample().shape == (6, B, *EVENT)
    assert_close(wide.log_prob(x), torch.stack([p.log_prob(row) for row in x]))


CONTEXT = BuildContext(DataSpec((1, 4, 4), "binary"))


@pytest.mark.parametrize(
    ("config", "supports", "numbers"),
    [
        (BernoulliLikelihoodConfig(), {"binary", "unit_interval"}, 1),
        (GaussianLikelihoodConfig(scale="per_value"), {"binary", "unit_interval", "bytes", "real"}, 2),
        (CategoricalLikelihoodConfig(), {"binary", "bytes"}, 256),
        (CategoricalLikelihoodConfig(levels=8), {"binary", "bytes"}, 8),
    ],
)
def test_config_builds_what_it_says(config: Any, supports: set[str], numbers: int) -> None:
    assert config.supports == supports
    assert config.build(CONTEXT).outputs_per_value == numbers


@pytest.mark.parametrize(
    ("config", "fields"),
    [
        (GaussianLikelihoodConfig, {"scale": "global"}),
        (GaussianLikelihoodConfig, {"min_scale": 0}),
        (GaussianLikelihoodConfig, {"scale": 0}),
        (GaussianLikelihoodConfig, {"scale": -0.5}),
        (CategoricalLikelihoodConfig, {"levels": 1}),
        (BernoulliLikelihoodConfig, {"levels": 2}),
    ],
)
def test_config_refuses(config: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        config.model_validate(fields)


def test_gaussian_around_a_sigmoid_counts_squared_errors() -> None:
    """At a scale of sqrt(1/2) the negative log-likelihood is the squared error, up to the constant."""
    raw, x = outputs(), torch.rand(B, *EVENT).double()
    p = GaussianLikelihood(EVENT, 0.5**0.5, mean="sigmoid")(raw)
    assert_close(p.mean, raw.sigmoid())
    squared = (x - raw.sigmoid()).square().sum((-3, -2, -1))
    constant = 0.5 * x[0].numel() * torch.log(torch.tensor(torch.pi, dtype=torch.float64))
    assert_close(-p.log_prob(x), squared + constant, rtol=1e-6, atol=0)
    assert GaussianLikelihoodConfig(mean="sigmoid").build(BuildContext(DataSpec(EVENT, "real"))).mean == "sigmoid"
