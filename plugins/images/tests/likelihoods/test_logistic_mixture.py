"""The discretized mixture of logistics against reference numbers, by total probability and by its samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from scipy.stats import chi2
from torch import Tensor
from torch.testing import assert_close
from uncollapse.config import BuildContext
from uncollapse.decoders import ConvDecoder, MLPDecoder
from uncollapse.protocols import DataSpec, output_channels
from uncollapse_images.decoders import PixelCNNDecoder, ResNetDecoder
from uncollapse_images.likelihoods import LogisticMixtureLikelihood, LogisticMixturePixels
from uncollapse_images.likelihoods.logistic_mixture import LogisticMixtureLikelihoodConfig

BYTES = torch.arange(256, dtype=torch.float64) / 255


def grey(weights: list[float], means: list[float], log_scales: list[float], **fields: Any) -> LogisticMixturePixels:
    """One grey pixel; means in [-1, 1]."""
    k = len(weights)
    at = [torch.tensor(t, dtype=torch.float64).view(1, k, 1, 1, 1) for t in (means, log_scales)]
    none = torch.zeros(1, k, 0, 1, 1).double()
    logits = torch.tensor(weights, dtype=torch.float64).log().view(1, k, 1, 1)
    return LogisticMixturePixels(logits, at[0], at[1], none, **fields)


def masses(p: LogisticMixturePixels) -> Tensor:
    return p.log_prob(BYTES.view(256, 1, 1, 1, 1)).exp()[:, 0]


def test_log_prob_is_that_of_the_released_code(oracle: Callable[[str], dict[str, Any]]) -> None:
    reference = oracle("mae_dmol")
    inputs = {k: torch.from_numpy(v) for k, v in reference["inputs"].items()}
    expected = torch.from_numpy(reference["expected"]["nll"])
    # [B, S, ...] there, [S, B, ...] here.
    logits, means, log_scales, coefficients = (
        inputs[n].transpose(0, 1) for n in ("log_mix", "means", "logscales", "coeffs_tanh")
    )
    x = inputs["x_uint8"].double() / 255
    found = -LogisticMixturePixels(logits, means, log_scales, coefficients).log_prob(x)
    assert_close(found.T, expected, rtol=reference["rtol"], atol=1e-10)


@pytest.mark.parametrize("density_below", [0.0, 1e-5])
@pytest.mark.parametrize("log_scales", [[0.5, -1.0], [-3.0, -4.0], [-7.0, -12.0]])
def test_probabilities_of_a_grey_pixel_sum_to_one(log_scales: list[float], density_below: float) -> None:
    p = grey([0.3, 0.7], [-1.2, 0.4], log_scales, density_below=density_below)
    # The density stands for the mass of bins below 1e-5 only.
    allowed = 256e-5 if density_below else 1e-12
    assert_close(masses(p).sum(), torch.ones(()).double(), rtol=0, atol=allowed)


def test_mass_is_the_logistic_s_between_the_edges_of_the_bin() -> None:
    mean, log_scale = 0.1, -2.0
    found = masses(grey([1.0], [mean], [log_scale], density_below=0))
    edges = ((2 * torch.arange(255).double() + 1) / 255 - 1 - mean) * torch.tensor(2.0).double().exp()
    below = torch.cat([torch.zeros(1).double(), edges.sigmoid(), torch.ones(1).double()])
    assert_close(found, below.diff())


def test_density_stands_for_small_masses_only() -> None:
    exact, released = (masses(grey([1.0], [0.0], [-5.0], density_below=b)) for b in (0.0, 1e-5))
    small = exact < 1e-5
    small[[0, 255]] = False
    assert 100 < int(small.sum()) < 254
    assert_close(released[~small], exact[~small])
    assert float((released[small] / exact[small] - 1).abs().min()) > 0.01
    x = (2 * BYTES - 1)[small]
    scaled = x * torch.tensor(5.0).double().exp()
    density = torch.exp(scaled + 5.0 - 2 * torch.nn.functional.softplus(scaled)) * 2 / 255
    assert_close(released[small], density)


def test_log_scales_are_clipped_from_below() -> None:
    assert_close(masses(grey([1.0], [0.3], [-50.0])), masses(grey([1.0], [0.3], [-7.0])))


def test_nats_are_finite_in_float32_far_from_every_component() -> None:
    likelihood = LogisticMixtureLikelihood((3, 2, 2), 2)
    outputs = (30 * torch.randn(4, likelihood.output_channels, 2, 2)).requires_grad_()
    log_prob = likelihood(outputs).log_prob(torch.randint(0, 256, (4, 3, 2, 2)) / 255)
    log_prob.sum().backward()
    assert bool(log_prob.isfinite().all())
    assert outputs.grad is not None
    assert bool(outputs.grad.isfinite().all())


# ------------------------------------------------------------------------------------------------------------- samples


def expect_agreement(levels: Tensor, probabilities: Tensor) -> None:
    """Chi-square over levels, those expected less than ten times taken together."""
    count = len(levels)
    observed, expected = torch.bincount(levels, minlength=256).double(), probabilities * count
    rare = expected < 10
    if bool(rare.any()):
        observed, expected = (torch.cat([t[~rare], t[rare].sum().view(1)]) for t in (observed, expected))
    statistic = float(((observed - expected).square() / expected.clamp(min=1e-9)).sum())
    assert statistic < chi2.ppf(0.9999, len(observed) - 1)


@pytest.mark.parametrize("weights", [[0.4, 0.6], [0.1, 0.9]])
def test_samples_follow_the_probabilities_and_components_are_drawn(weights: list[float]) -> None:
    p = grey(weights, [-0.95, 0.5], [-2.0, -3.5], density_below=0)
    x = p.sample((20_000,))
    assert x.shape == (20_000, 1, 1, 1, 1)
    levels = (x * 255).flatten()
    assert_close(levels, levels.round(), rtol=0, atol=1e-9)
    expect_agreement(levels.round().long(), masses(p))
    # A sampler that takes the likeliest component would never draw the other.
    assert float((levels < 128).double().mean()) == pytest.approx(weights[0], abs=0.02)


def test_channels_are_drawn_in_order_and_each_given_the_ones_before() -> None:
    means = torch.tensor([[0.2, -0.3, 0.1], [-0.4, 0.4, 0.0]]).double().view(1, 2, 3, 1, 1)
    log_scales = torch.full((1, 2, 3, 1, 1), -1.5).double()
    coefficients = torch.tensor([[0.9, -0.8, 0.7], [-0.9, 0.5, 0.95]]).double().view(1, 2, 3, 1, 1)
    logits = torch.tensor([0.5, 0.5]).double().log().view(1, 2, 1, 1)
    p = LogisticMixturePixels(logits, means, log_scales, coefficients, density_below=0)
    # Blue is moved by both; summed out, it leaves what red and green are alone.
    grid = torch.cartesian_prod(BYTES[::15], BYTES[::15])
    blue = BYTES.view(-1, 1).expand(256, len(grid))
    x = torch.stack([grid[:, 0].expand_as(blue), grid[:, 1].expand_as(blue), blue], -1)
    joint = p.log_prob(x.view(-1, 1, 3, 1, 1)).view(256, -1).exp().sum(0)
    red_green = LogisticMixturePixels(
        logits, means[:, :, :2], log_scales[:, :, :2], coefficients[:, :, :1], density_below=0
    )
    assert_close(joint, red_green.log_prob(grid.view(-1, 1, 2, 1, 1))[:, 0].exp())
    # Mean of the log density over samples against its value by exact summation, for red and green.
    every = torch.cartesian_prod(BYTES, BYTES).view(-1, 1, 2, 1, 1)
    log_p = red_green.log_prob(every)[:, 0]
    assert_close(log_p.exp().sum(), torch.ones(()).double())
    drawn = p.sample((20_000,))[:, :, :2]
    own = red_green.log_prob(drawn)[:, 0]
    assert float(own.mean()) == pytest.approx(
        float((log_p.exp() * log_p).sum()), abs=5 * float(own.std()) / 20_000**0.5
    )
    # And the mean of products of neighbouring channels, which independent channels would miss.
    exact = float((log_p.exp() * every[:, 0, 0, 0, 0] * every[:, 0, 1, 0, 0]).sum())
    products = drawn[:, 0, 0, 0, 0] * drawn[:, 0, 1, 0, 0]
    assert float(products.mean()) == pytest.approx(exact, abs=5 * float(products.std()) / 20_000**0.5)


# ----------------------------------------------------------------------------------------------------------- interface


def test_shapes_broadcast_like_a_loop() -> None:
    likelihood = LogisticMixtureLikelihood((3, 4, 5), 2)
    outputs, x = torch.randn(2, 6, likelihood.output_channels, 4, 5).double(), torch.randint(0, 256, (6, 3, 4, 5)) / 255
    p = likelihood(outputs)
    assert (p.batch_shape, p.event_shape) == ((2, 6), (3, 4, 5))
    looped = torch.stack([torch.stack([likelihood(outputs[s, b]).log_prob(x[b]) for b in range(6)]) for s in range(2)])
    assert_close(p.log_prob(x), looped)
    assert p.sample((7,)).shape == (7, 2, 6, 3, 4, 5)
    assert bool(p.support.check(p.sample()).all())
    wide = p.expand((3, 2, 6))
    assert_close(wide.log_prob(x), looped.expand(3, 2, 6))
    assert wide.sample().shape == (3, 2, 6, 3, 4, 5)
    with pytest.raises(NotImplementedError):
        _ = p.mean


def test_outputs_are_logits_means_log_scales_and_coefficients() -> None:
    outputs = torch.randn(1, 30, 2, 2).double()
    p = LogisticMixtureLikelihood((3, 2, 2), 3)(outputs)
    assert_close(p.logits, outputs[:, :3])
    assert_close(p.means, outputs[:, 3:12].view(1, 3, 3, 2, 2))
    assert_close(p.log_scales, outputs[:, 12:21].view(1, 3, 3, 2, 2))
    assert_close(p.coefficients, outputs[:, 21:].view(1, 3, 3, 2, 2).tanh())


@pytest.mark.parametrize(("channels", "numbers"), [(1, 30), (3, 100)])
def test_config_builds_what_it_says(channels: int, numbers: int) -> None:
    config = LogisticMixtureLikelihoodConfig()
    built = config.build(BuildContext(DataSpec((channels, 4, 4), "bytes")))
    assert config.supports == {"bytes"}
    assert output_channels(built, channels) == built.output_channels == numbers
    for wrong in ({"mixtures": 0}, {"density_below": -1e-3}, {"density_below": 1}):
        with pytest.raises(ValidationError):
            LogisticMixtureLikelihoodConfig.model_validate(wrong)


def test_a_pixelcnn_samples_channels_given_each_other() -> None:
    event = (3, 2, 2)
    decoder = PixelCNNDecoder((2,), event, LogisticMixtureLikelihood(event, 2), (3, 3), 6)
    p = decoder(torch.randn(4, 2))
    x = p.sample()
    assert x.shape == (4, *event)
    assert_close(x * 255, (x * 255).round())
    log_prob = p.log_prob(x)
    log_prob.sum().backward()
    assert bool(log_prob.isfinite().all())


@pytest.mark.parametrize("event", [(1, 8, 8), (3, 8, 8)])
@pytest.mark.parametrize("kind", [MLPDecoder, ConvDecoder, ResNetDecoder])
def test_every_decoder_asks_how_many_numbers_are_read(kind: Any, event: tuple[int, ...]) -> None:
    likelihood = LogisticMixtureLikelihood(event, 2)
    p = kind((2,), event, likelihood, (8,))(torch.randn(4, 2))
    assert isinstance(p, LogisticMixturePixels)
    assert (p.batch_shape, p.event_shape) == ((4,), event)
