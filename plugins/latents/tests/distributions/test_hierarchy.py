"""Densities and samples of two levels against brute force in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal
from torch.testing import assert_close
from uncollapse.capabilities import supports
from uncollapse.distributions import (
    DiagonalNormal,
    FactorizedDensity,
    StandardNormal,
    TermwiseDensity,
    analytic_kl,
    gaussian_base,
    rsample_and_log_prob,
)
from uncollapse_kit.density import expect_unit_mass, first_of
from uncollapse_latents.distributions import TwoLevel, TwoLevelNormal
from uncollapse_latents.priors import Mixture

B, D1, D2 = 3, 2, 4
DOUBLE = torch.float64


def moments(*shape: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mean, logvar = (torch.randn(shape, generator=generator, dtype=DOUBLE) for _ in range(2))
    return mean, logvar


class Conditional:
    """``p(z1|z2)`` with a mean that bends and a variance that changes with ``z2``; remembers what it was asked."""

    def __init__(self, d1: int = D1, d2: int = D2) -> None:
        generator = torch.Generator().manual_seed(7)
        self.weight = torch.randn(d2, d1, generator=generator, dtype=DOUBLE)
        self.seen: list[tuple[int, ...]] = []

    def moments(self, z2: Tensor) -> tuple[Tensor, Tensor]:
        at = z2 @ self.weight
        return torch.sin(at), 0.3 * at - 0.5

    def __call__(self, z2: Tensor) -> DiagonalNormal:
        self.seen.append(tuple(z2.shape))
        return DiagonalNormal(*self.moments(z2))


def two_levels(batch: int = B) -> TwoLevelNormal:
    return TwoLevelNormal(DiagonalNormal(*moments(batch, D2, seed=1)), Conditional(), D1)


def by_hand(q: TwoLevel, z: Tensor, b: int) -> Tensor:
    """``log N(z2) + log N(z1; moments(z2))``, number by number with torch's own normal."""
    z1, z2 = z[:D1], z[D1:]
    mean, logvar = (t[0] for t in q.bottom.moments(z2[None]))
    total = torch.zeros((), dtype=DOUBLE)
    for d in range(D2):
        total = total + Normal(q.top.mean[b, d], q.top.stddev[b, d]).log_prob(z2[d])
    for d in range(D1):
        total = total + Normal(mean[d], math.exp(0.5 * logvar[d])).log_prob(z1[d])
    return total


def test_density_is_the_product_of_both_levels() -> None:
    q = two_levels()
    assert (q.batch_shape, q.event_shape) == ((B,), (D1 + D2,))
    z = torch.randn(5, B, D1 + D2, dtype=DOUBLE)
    expected = torch.stack([torch.stack([by_hand(q, z[s, b], b) for b in range(B)]) for s in range(5)])
    assert_close(q.log_prob(z), expected, rtol=1e-12, atol=1e-12)
    terms = q.log_prob_per_dimension(z)
    assert terms.shape == z.shape
    assert_close(terms.sum(-1), expected, rtol=1e-12, atol=1e-12)
    # The first terms are those of z1 given z2.
    conditional = Independent(Normal(*_scaled(q.bottom.moments(z[..., D1:]))), 0)
    assert_close(terms[..., :D1], conditional.log_prob(z[..., :D1]))


def _scaled(moments: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return moments[0], (0.5 * moments[1]).exp()


@pytest.mark.parametrize("name", ["small", "big"])
def test_rate_agrees_with_the_released_code(oracle, name: str) -> None:
    """``log q(z1|x, z2) + log q(z2|x) - log p(z1|z2) - log p(z2)`` of given moments; the 2 pi, left out there, cancel."""
    numbers = oracle("mim_image_loss")
    given = {key: torch.as_tensor(value) for key, value in numbers["inputs"][name].items()}

    def levels(top: DiagonalNormal, which: str) -> TwoLevelNormal:
        bottom = DiagonalNormal(given[f"{which}_z1_mean"], given[f"{which}_z1_logvar"])
        return TwoLevelNormal(top, lambda z2: bottom, given["z1"].shape[1])

    q = levels(DiagonalNormal(given["q_z2_mean"], given["q_z2_logvar"]), "q")
    p = levels(StandardNormal(torch.zeros_like(given["z2"][0])), "p")
    z = torch.cat([given["z1"], given["z2"]], 1)
    rate = q.log_prob(z) - p.log_prob(z)
    assert_close(rate, torch.as_tensor(numbers["expected"][name]["code_KL"]), rtol=numbers["rtol"], atol=1e-10)


def test_samples_come_with_their_density() -> None:
    q = two_levels()
    for z, log_q in (rsample_and_log_prob(q, (4,)), rsample_and_log_prob(q)):
        assert_close(log_q, q.log_prob(z), rtol=1e-10, atol=1e-10)
    z, terms = q.rsample_and_log_prob_per_dimension((4,))
    assert_close(terms, q.log_prob_per_dimension(z), rtol=1e-10, atol=1e-10)
    # The network is asked once for each draw: nothing is computed twice.
    q.bottom.seen.clear()
    rsample_and_log_prob(q, (4,))
    assert q.bottom.seen == [(4, B, D2)]


def test_all_ways_of_drawing_agree() -> None:
    q = two_levels()
    draws = []
    for draw in (q.sample, q.rsample, lambda s: q.rsample_and_log_prob(s)[0]):
        torch.manual_seed(0)
        draws.append(draw((3,)))
    assert_close(draws[0], draws[1])
    assert_close(draws[0], draws[2])


def test_samples_are_those_of_the_density() -> None:
    narrow = TwoLevelNormal(DiagonalNormal(*moments(2, 1, seed=3)), Conditional(1, 1), 1)
    torch.manual_seed(0)
    expect_unit_mass(first_of(narrow), "two levels")


def test_marginal_of_the_top_level() -> None:
    """Integrating the density over z1 gives the density of z2."""
    q = TwoLevelNormal(DiagonalNormal(*moments(1, 1, seed=3)), Conditional(1, 1), 1)
    z1 = torch.linspace(-25, 25, 100_001, dtype=DOUBLE)
    for value in (-1.3, 0.2, 2.0):
        z = torch.stack([z1, torch.full_like(z1, value)], -1)[:, None]
        total = torch.trapezoid(q.log_prob(z)[:, 0].exp(), z1)
        expected = q.top.log_prob(torch.tensor([[value]], dtype=DOUBLE)).exp()[0]
        assert_close(total, expected, rtol=1e-9, atol=0)


def test_gradients_pass_through_the_samples_of_both_levels() -> None:
    mean, logvar = (m.requires_grad_() for m in moments(B, D2, seed=1))
    q = TwoLevelNormal(DiagonalNormal(mean, logvar), Conditional(), D1)
    assert q.has_rsample
    bottom, _ = q.split(q.rsample((5,)))
    for gradient in torch.autograd.grad(bottom.square().sum(), [mean, logvar]):
        assert bool(gradient.all())


def test_repeated_values_are_computed_once() -> None:
    """Pairs of every sample with every posterior: the network reads each sample once, the numbers are the same."""
    q = two_levels()
    z = torch.randn(7, D1 + D2, dtype=DOUBLE)
    pairs = z.unsqueeze(1).expand(-1, B, -1)
    expected = q.log_prob(pairs.contiguous())
    q.bottom.seen.clear()
    assert_close(q.log_prob(pairs), expected, rtol=1e-13, atol=0)
    assert q.bottom.seen == [(7, 1, D2)]
    assert_close(q.log_prob_per_dimension(pairs).sum(-1), expected)
    # A prior has no batch to broadcast against, and must give every value its own number.
    p = TwoLevelNormal(StandardNormal(torch.zeros(D2, dtype=DOUBLE)), Conditional(), D1)
    assert_close(p.log_prob(pairs), p.log_prob(pairs.contiguous()))
    assert_close(p.log_prob_per_dimension(pairs), p.log_prob_per_dimension(pairs.contiguous()))


def test_any_distribution_may_be_the_top() -> None:
    """A mixture has no reparameterized samples and no terms, so neither have the two levels."""
    mixture = Mixture(DiagonalNormal(*moments(6, D2, seed=2)))
    p = TwoLevel(mixture, Conditional(), D1)
    assert not p.has_rsample
    assert not supports(p, FactorizedDensity)
    assert not supports(p, TermwiseDensity)
    assert supports(two_levels(), FactorizedDensity)
    assert supports(two_levels(), TermwiseDensity)
    z = p.sample((11,))
    assert z.shape == (11, D1 + D2)
    conditional = Independent(Normal(*_scaled(p.bottom.moments(z[:, D1:]))), 1)
    assert_close(p.log_prob(z), mixture.log_prob(z[:, D1:]) + conditional.log_prob(z[:, :D1]))


def test_what_has_no_closed_form_says_so() -> None:
    q = two_levels()
    for ask in (lambda: q.mean, lambda: q.entropy()):
        with pytest.raises(NotImplementedError):
            ask()
    assert gaussian_base(q) is None
    assert analytic_kl(q, q) is None
