"""One pass: what is computed, when, and how the rate is taken."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, Laplace, Normal, kl_divergence
from torch.testing import assert_close
from uncollapse.distributions import DiagonalNormal, standard_normal
from uncollapse.errors import ConfigError
from uncollapse.inference import Inference
from uncollapse.protocols import Progress

SAMPLES, BATCH, LATENT, PIXELS = 3, 4, 2, 5


class Counting(DiagonalNormal):
    """Counts evaluations of its density."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.evaluations = 0

    def log_prob(self, value: Tensor) -> Tensor:
        self.evaluations += 1
        return super().log_prob(value)


def inference(**changes: Any) -> Inference:
    generator = torch.Generator().manual_seed(0)
    q = Counting(torch.randn(BATCH, LATENT, generator=generator), torch.randn(BATCH, LATENT, generator=generator))
    z = q.rsample((SAMPLES,))
    p_z = Counting(torch.zeros(LATENT), torch.zeros(LATENT))
    p_x = Independent(Bernoulli(logits=torch.randn(SAMPLES, BATCH, PIXELS, generator=generator)), 1)
    x = (torch.rand(BATCH, PIXELS, generator=generator) > 0.5).float()
    return Inference(**{"x": x, "h": x, "q": q, "z": z, "p_z": p_z, "p_x": p_x, **changes})


def test_log_densities() -> None:
    one = inference()
    for value in (one.log_q, one.log_p_z, one.log_p_x):
        assert value.shape == (SAMPLES, BATCH)
    assert_close(one.log_q, one.q.log_prob(one.z))
    assert_close(one.log_p_z, standard_normal((LATENT,)).log_prob(one.z))
    assert_close(one.log_p_x, one.p_x.log_prob(one.x))
    assert_close(one.distortion, -one.log_p_x.mean(0))
    assert one.distortion.shape == (BATCH,)


def test_densities_are_evaluated_when_they_are_first_read_and_once() -> None:
    one = inference()
    q, p_z = one.q, one.p_z
    assert isinstance(q, Counting)
    assert isinstance(p_z, Counting)
    one.rate("auto")
    assert (q.evaluations, p_z.evaluations) == (0, 0)
    one.rate("monte_carlo")
    assert one.log_q is one.log_q
    assert one.log_p_z is one.log_p_z
    assert (q.evaluations, p_z.evaluations) == (1, 1)


def test_log_q_that_is_known_is_not_computed_again() -> None:
    known = torch.zeros(SAMPLES, BATCH)
    one = inference(known_log_q=known)
    assert one.log_q is known
    assert isinstance(one.q, Counting)
    assert one.q.evaluations == 0


def test_analytic_rate() -> None:
    one = inference()
    expected = kl_divergence(
        Independent(Normal(one.q.mean, one.q.stddev), 1),
        Independent(Normal(torch.zeros(LATENT), torch.ones(LATENT)), 1),
    )
    assert_close(one.rate(), expected)
    assert_close(one.rate("analytic"), expected)


def test_monte_carlo_rate_is_the_mean_of_log_ratios_and_unbiased() -> None:
    one = inference()
    assert_close(one.rate("monte_carlo"), (one.log_q - one.log_p_z).mean(0))
    many = inference(z=one.q.rsample((20_000,)))
    assert_close(many.rate("monte_carlo"), one.rate("analytic"), rtol=0.05, atol=0.05)


def laplace() -> Distribution:
    return Independent(Laplace(torch.zeros(LATENT), torch.ones(LATENT)), 1)


def test_rate_without_a_closed_form_is_estimated() -> None:
    one = inference(p_z=laplace())
    assert_close(one.rate("auto"), one.rate("monte_carlo"))


def test_analytic_rate_without_a_closed_form_is_an_error() -> None:
    with pytest.raises(ConfigError) as caught:
        inference(p_z=laplace()).rate("analytic")
    assert str(caught.value) == (
        "rate: 'analytic' was asked for, but KL(Counting || Independent) has no known closed form; use 'auto' or "
        "'monte_carlo'"
    )


def test_base_is_the_gaussian_or_nothing() -> None:
    one = inference()
    assert one.base is one.q
    assert inference(q=Independent(Laplace(torch.zeros(BATCH, LATENT), torch.ones(1)), 1)).base is None


def test_one_process_gathers_its_own() -> None:
    one = inference()
    gathered = one.gathered()
    assert gathered.base is one.base
    assert gathered.z is one.z
    rates = one.rate()
    assert one.gather(rates) is rates


def test_progress_is_the_beginning_by_default() -> None:
    assert inference().progress == Progress()


@pytest.mark.parametrize(("step", "epoch"), [(0, 0), (9, 0), (10, 1), (25, 2)])
def test_epochs_are_whole(step: int, epoch: int) -> None:
    assert Progress(step, steps_per_epoch=10).epoch == epoch


def test_end_of_progress_is_final() -> None:
    assert Progress.at_end().final
    assert not Progress().final
