"""The likelihoods of VampPrior's released code: clamped Bernoulli and discretised logistic."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from numpy.testing import assert_allclose
from pydantic import ValidationError
from torch import nn
from torch.testing import assert_close
from uncollapse.config import BuildContext
from uncollapse.likelihoods import BernoulliLikelihood, BernoulliLikelihoodConfig, BernoulliPixels
from uncollapse.protocols import DataSpec
from uncollapse_images.likelihoods import LogisticLikelihood, LogisticLikelihoodConfig, LogisticPixels

EVENT = (2, 3, 4)
CONTEXT = BuildContext(DataSpec(EVENT, "bytes"))
BYTES = torch.arange(256, dtype=torch.float64)[:, None] / 255


def bytes_like(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape).double() / 255


# --------------------------------------------------------------------------------------------------- clamped Bernoulli


def test_clamped_bernoulli_agrees_with_the_released_code(oracle: Any) -> None:
    numbers = oracle("vampprior_likelihoods")
    x, p = (torch.from_numpy(numbers["inputs"][k]) for k in ("x_binary", "p"))
    # Two of the probabilities are 0 and 1: infinite logits.
    log_prob = BernoulliLikelihood(tuple(p.shape[1:]), clamp=1e-5)(p.logit()).log_prob(x)
    assert_allclose(log_prob, numbers["expected"]["log_bernoulli_sum"], rtol=numbers["rtol"], atol=1e-10)


def test_clamp_limits_probabilities_cost_and_gradient() -> None:
    logits = torch.tensor([-50.0, -1.0, 1.0, 50.0], requires_grad=True)
    p = BernoulliLikelihood((4,), clamp=1e-3)(logits)
    assert_close(p.mean, torch.tensor([1e-3, 0.2689414, 0.7310586, 1 - 1e-3]))
    log_prob = p.log_prob(torch.tensor([1.0, 0.0, 1.0, 0.0]))
    inner = BernoulliPixels(torch.tensor([-1.0, 1.0]), 1).log_prob(torch.tensor([0.0, 1.0]))
    assert_close(log_prob, inner + 2 * math.log(1e-3))
    (gradient,) = torch.autograd.grad(log_prob, [logits])
    assert (gradient != 0).tolist() == [False, True, True, False]


def test_without_clamp_nothing_is_limited() -> None:
    logits = torch.tensor([200.0])
    assert_close(BernoulliLikelihood((1,))(logits).log_prob(torch.zeros(1)), torch.tensor(-200.0))
    assert BernoulliLikelihoodConfig().build(CONTEXT).max_logit is None
    assert BernoulliLikelihoodConfig(clamp=1e-5).build(CONTEXT).max_logit == pytest.approx(math.log((1 - 1e-5) / 1e-5))
    for clamp in (0.0, 0.5, -1.0):
        with pytest.raises(ValidationError):
            BernoulliLikelihoodConfig(clamp=clamp)


# ------------------------------------------------------------------------------------------------------------ logistic


def test_logistic_agrees_with_the_released_code(oracle: Any) -> None:
    numbers = oracle("vampprior_likelihoods")
    x, mean, log_scale = (torch.from_numpy(numbers["inputs"][k]) for k in ("x_gray", "mean", "logscale"))
    p = LogisticPixels(mean, log_scale, event_dim=1, tails=False)
    expected = numbers["expected"]["neg_log_logistic256_sum"]
    assert_allclose(-p.log_prob(x), expected, rtol=numbers["rtol"], atol=1e-10)
    # Between the ends the masses differ by the 1e-7 alone, which is what counts far out.
    inside = torch.where((x > 0) & (x < 1), x, 0.5)[..., None]
    ours, released = (
        LogisticPixels(mean[..., None], log_scale[..., None], 1, tails).log_prob(inside).exp()
        for tails in (True, False)
    )
    assert_close(ours + 1e-7, released, rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize("log_scale", [-9.0, -4.5, -2.0, 0.0, 2.0])
@pytest.mark.parametrize("location", [0.002, 0.3, 0.998])
def test_probabilities_sum_to_one_over_bytes(location: float, log_scale: float) -> None:
    p = LogisticPixels(*torch.tensor([[location], [log_scale]]).double(), event_dim=1)
    assert_close(p.log_prob(BYTES).exp().sum(), torch.tensor(1.0).double())
    released = LogisticPixels(p.location, p.log_scale, 1, tails=False)
    lost = 1 - (1 - p.location).div(p.log_scale.exp()).sigmoid() + (-p.location / p.log_scale.exp()).sigmoid()
    assert_close(released.log_prob(BYTES).exp().sum(), (1 - lost + 256e-7).squeeze())


def test_mass_is_the_logistic_s_in_the_byte_s_bin() -> None:
    location, log_scale = torch.tensor([0.4]).double(), torch.tensor([-2.0]).double()
    edges = torch.arange(1, 256).double() / 256
    cumulative = ((edges - location) / log_scale.exp()).sigmoid()
    expected = torch.cat([cumulative[:1], cumulative.diff(), 1 - cumulative[-1:]])
    assert_close(LogisticPixels(location, log_scale, 1).log_prob(BYTES).exp(), expected)


def test_bytes_divided_by_255_in_float32_find_their_bin() -> None:
    x = (torch.arange(256, dtype=torch.uint8).float() / 255)[:, None]
    location, log_scale = torch.tensor([0.4]), torch.tensor([-2.0])
    expected = LogisticPixels(location.double(), log_scale.double(), 1).log_prob(BYTES)
    assert_close(LogisticPixels(location, log_scale, 1).log_prob(x), expected.float(), rtol=1e-4, atol=1e-4)


def test_far_out_values_are_finite_and_have_a_gradient() -> None:
    location = torch.tensor([0.01], requires_grad=True)
    log_prob = LogisticPixels(location, torch.tensor([-9.0]), 1).log_prob(torch.tensor([0.98]))
    log_prob.backward()
    assert float(log_prob.detach()) < -1000
    assert float(location.grad) == pytest.approx(math.exp(9), rel=1e-3)


def test_moments_and_samples() -> None:
    location = torch.tensor([0.02, 0.5, 0.97]).double()
    log_scale = torch.tensor([-3.0, -4.0, -1.0]).double()
    p = LogisticPixels(location, log_scale, event_dim=1)
    per_value = LogisticPixels(location[:, None], log_scale[:, None], event_dim=1)
    probabilities = per_value.log_prob(BYTES[:, None]).exp()
    assert_close(p.mean, (probabilities * BYTES).sum(0))
    torch.manual_seed(0)
    x = p.sample((40_000,))
    assert x.shape == (40_000, 3)
    assert bool(p.support.check(x).all())
    assert_close(x * 255, (x * 255).round())
    assert_close(x.mean(0), p.mean, rtol=0, atol=0.01)
    for value in range(3):
        counts = torch.bincount((x[:, value] * 255).round().long(), minlength=256) / len(x)
        assert_close(counts.double(), probabilities[:, value], rtol=0, atol=0.012)


@pytest.mark.parametrize("scale", ["per_value", "learned", 0.05])
def test_outputs_are_location_and_scale(scale: Any) -> None:
    likelihood = LogisticLikelihood(EVENT, scale).double()
    raw = 3 * torch.randn(5, 6, likelihood.outputs_per_value * EVENT[0], *EVENT[1:]).double()
    p = likelihood(raw)
    assert (p.batch_shape, p.event_shape) == ((5, 6), EVENT)
    location = raw[:, :, : EVENT[0]]
    assert_close(p.location, location.sigmoid().clamp(1 / 512, 1 - 1 / 512))
    if scale == "per_value":
        assert_close(p.log_scale, raw[:, :, EVENT[0] :].clamp(-4.5, 0))
    else:
        expected = -2.25 if scale == "learned" else math.log(0.05)
        assert_close(p.log_scale, torch.full_like(location, expected), rtol=1e-6, atol=0)
    assert len(list(likelihood.parameters())) == (scale == "learned")
    x = bytes_like(6, *EVENT)
    assert p.log_prob(x).shape == (5, 6)


def test_nats_are_summed_over_the_event() -> None:
    location, log_scale = torch.rand(5, *EVENT).double(), torch.randn(5, *EVENT).double() - 2
    x = bytes_like(5, *EVENT)
    flat = LogisticPixels(location.reshape(-1, 1), log_scale.reshape(-1, 1), 1).log_prob(x.reshape(-1, 1))
    assert_close(LogisticPixels(location, log_scale, 3).log_prob(x), flat.reshape(5, -1).sum(1))


def test_a_learned_scale_stays_inside_its_limits() -> None:
    likelihood = LogisticLikelihood(EVENT, "learned", log_scale_range=(-3.0, -1.0))
    assert isinstance(likelihood.log_scale, nn.Parameter)
    assert float(likelihood.log_scale.detach()) == -2
    likelihood.log_scale.data.fill_(5.0)
    assert_close(likelihood(torch.zeros(1, *EVENT)).log_scale.detach(), torch.full((1, *EVENT), -1.0))


def test_expand_and_half_precision() -> None:
    likelihood = LogisticLikelihood(EVENT)
    raw = torch.randn(3, 2 * EVENT[0], *EVENT[1:])
    x = bytes_like(7, 3, *EVENT).float()
    p = likelihood(raw)
    wide = p.expand((7, 3))
    assert wide.batch_shape == (7, 3)
    assert_close(wide.log_prob(x), torch.stack([p.log_prob(row) for row in x]))
    half = likelihood(raw.bfloat16()).log_prob(x[0])
    assert half.dtype == torch.float32
    assert_close(half, likelihood(raw.bfloat16().float()).log_prob(x[0]))


def test_config() -> None:
    config = LogisticLikelihoodConfig()
    assert config.supports == {"bytes"}
    assert config.build(CONTEXT).outputs_per_value == 2
    built = LogisticLikelihoodConfig(scale="learned", log_scale_range=(-6, -1), tails=False).build(CONTEXT)
    assert (built.outputs_per_value, built.log_scale_range, built.tails) == (1, (-6, -1), False)
    for fields in ({"scale": 0}, {"scale": "global"}, {"log_scale_range": [0, -4]}, {"levels": 256}):
        with pytest.raises(ValidationError):
            LogisticLikelihoodConfig.model_validate(fields)
