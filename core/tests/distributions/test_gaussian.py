"""DiagonalNormal against torch's own Independent(Normal), in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Beta, Independent, Laplace, Normal, TransformedDistribution, kl_divergence
from torch.distributions.transforms import TanhTransform
from torch.testing import assert_close
from uncollapse.distributions import (
    DiagonalNormal,
    analytic_kl,
    gaussian_base,
    kl_per_dimension,
    rsample_and_log_prob,
    standard_normal,
)

# (batch shape, event shape)
SHAPES = [((), (3,)), ((4,), (3,)), ((2, 4), (3,)), ((4,), (2, 3, 5)), ((), (2, 3)), ((5,), ())]


def pair(batch: tuple[int, ...], event: tuple[int, ...], seed: int = 0) -> tuple[DiagonalNormal, Independent]:
    """Return the same Gaussian twice: ours and torch's."""
    generator = torch.Generator().manual_seed(seed)
    mean, logvar = torch.randn(2, *batch, *event, generator=generator, dtype=torch.float64)
    return (
        DiagonalNormal(mean, logvar, event_dim=len(event)),
        Independent(Normal(mean, (0.5 * logvar).exp()), len(event)),
    )


@pytest.mark.parametrize(("batch", "event"), SHAPES)
def test_it_is_torch_s_gaussian(batch: tuple[int, ...], event: tuple[int, ...]) -> None:
    ours, torchs = pair(batch, event)
    assert ours.batch_shape == torchs.batch_shape == batch
    assert ours.event_shape == torchs.event_shape == event
    x = torch.randn(7, *batch, *event, dtype=torch.float64)
    assert_close(ours.log_prob(x), torchs.log_prob(x))
    assert_close(ours.entropy(), torchs.entropy())
    assert_close(ours.mean, torchs.mean)
    assert_close(ours.mode, torchs.mode)
    assert_close(ours.variance, torchs.variance)
    assert_close(ours.stddev, torchs.stddev)


@pytest.mark.parametrize(("batch", "event"), SHAPES)
def test_divergence(batch: tuple[int, ...], event: tuple[int, ...]) -> None:
    (q, torchs_q), (p, torchs_p) = pair(batch, event, 0), pair(batch, event, 1)
    expected = kl_divergence(torchs_q, torchs_p)
    assert_close(kl_divergence(q, p), expected)
    each = kl_per_dimension(q, p)
    assert each.shape == (*batch, *event)
    assert_close(each, kl_divergence(torchs_q.base_dist, torchs_p.base_dist))
    assert bool((each >= 0).all())
    assert_close(kl_per_dimension(q, q), torch.zeros_like(each))


def test_divergence_from_a_prior_without_batch() -> None:
    q, torchs_q = pair((4,), (2, 3))
    p = DiagonalNormal(torch.zeros(2, 3).double(), torch.zeros(2, 3).double(), 2)
    expected = kl_divergence(torchs_q, Independent(Normal(torch.zeros(2, 3).double(), 1.0), 2))
    assert kl_divergence(q, p).shape == (4,)
    assert_close(kl_divergence(q, p), expected)


@pytest.mark.parametrize(("batch", "event"), SHAPES)
def test_sampling(batch: tuple[int, ...], event: tuple[int, ...]) -> None:
    ours, torchs = pair(batch, event)
    torch.manual_seed(3)
    z = ours.rsample((6, 2))
    torch.manual_seed(3)
    assert_close(z, torchs.rsample((6, 2)))
    torch.manual_seed(3)
    assert_close(ours.sample((6, 2)), z)
    torch.manual_seed(3)
    again, log_q = ours.rsample_and_log_prob((6, 2))
    assert_close(again, z)
    assert log_q.shape == (6, 2, *batch)
    assert_close(log_q, ours.log_prob(z))


def test_samples_are_reparameterized() -> None:
    mean, logvar = torch.randn(2, 4, 3, dtype=torch.float64).requires_grad_().unbind()
    q = DiagonalNormal(mean, logvar)
    torch.manual_seed(0)
    noise = torch.randn(5, 4, 3, dtype=torch.float64)
    torch.manual_seed(0)
    z = q.rsample((5,))
    by_mean, by_logvar = torch.autograd.grad(z.sum(), [mean, logvar])
    assert_close(by_mean, torch.full_like(mean, 5.0))
    assert_close(by_logvar, (0.5 * noise * (0.5 * logvar).exp()).sum(0))
    assert not q.sample((5,)).requires_grad


def test_density_of_own_samples_keeps_precision_on_narrow_posteriors() -> None:
    mean, logvar = torch.full((1, 2), 1e4), torch.full((1, 2), -20.0)
    torch.manual_seed(0)
    noise = torch.randn(8, 1, 2).double()
    expected = -0.5 * (noise.square() - 20.0 + math.log(2 * math.pi)).sum(-1)
    torch.manual_seed(0)
    z, log_q = DiagonalNormal(mean, logvar).rsample_and_log_prob((8,))
    assert_close(log_q.double(), expected, rtol=1e-5, atol=1e-5)
    # The density at the rounded sample is off by nats: the mean's float32 grid is wider than the posterior.
    assert (DiagonalNormal(mean, logvar).log_prob(z).double() - expected).abs().max() > 0.1


@pytest.mark.parametrize(("batch", "event"), [((4,), (3,)), ((4,), (2, 3)), ((), (3,))])
def test_expand(batch: tuple[int, ...], event: tuple[int, ...]) -> None:
    ours, torchs = pair(batch, event)
    wide = ours.expand((6, *batch))
    assert isinstance(wide, DiagonalNormal)
    assert wide.batch_shape == (6, *batch)
    assert wide.event_shape == event
    x = torch.randn(6, *batch, *event, dtype=torch.float64)
    assert_close(wide.log_prob(x), torchs.expand((6, *batch)).log_prob(x))
    assert wide.mean.untyped_storage().data_ptr() == ours.mean.untyped_storage().data_ptr()


def test_moments_broadcast() -> None:
    q = DiagonalNormal(torch.zeros(4, 3), torch.zeros(3))
    assert q.batch_shape == (4,)
    assert q.logvar.shape == (4, 3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    q = DiagonalNormal(torch.ones(2, 3, dtype=dtype), torch.zeros(2, 3, dtype=dtype))
    assert q.mean.dtype == q.logvar.dtype == q.rsample().dtype == torch.float32


def test_support_is_the_reals_over_the_event() -> None:
    q, _ = pair((4,), (2, 3))
    inside = q.support.check(torch.zeros(4, 2, 3))
    assert inside.shape == (4,)
    assert bool(inside.all())
    assert not q.support.is_discrete


def test_validation_refuses_what_is_not_a_number() -> None:
    with pytest.raises(ValueError, match="mean"):
        DiagonalNormal(torch.full((2,), torch.nan), torch.zeros(2), validate_args=True)


def test_standard_normal() -> None:
    p = standard_normal((2, 3))
    assert p.batch_shape == ()
    assert p.event_shape == (2, 3)
    assert_close(p.log_prob(torch.zeros(2, 3)), torch.tensor(-3 * math.log(2 * math.pi)))


# --------------------------------------------------------------------------------------------------------- other ways in


def test_base_of_torch_s_gaussians() -> None:
    ours, torchs = pair((4,), (2, 3))
    for q, expected in ((ours, ours), (torchs, ours)):
        base = gaussian_base(q)
        assert base is not None
        assert base.event_shape == (2, 3)
        assert_close(base.mean, expected.mean)
        assert_close(base.logvar, expected.logvar)
    plain = gaussian_base(Normal(torch.zeros(4, 3), 2 * torch.ones(4, 3)))
    assert plain is not None
    assert (plain.batch_shape, plain.event_shape) == ((4,), (3,))
    assert_close(plain.variance, torch.full((4, 3), 4.0))


def test_base_of_a_flow_is_the_gaussian_under_it() -> None:
    ours, _ = pair((4,), (3,))

    class Flow(TransformedDistribution):
        @property
        def base(self) -> DiagonalNormal:
            return ours

    flow = Flow(Independent(Normal(ours.mean, ours.stddev), 1), [TanhTransform()])
    assert gaussian_base(flow) is ours


def test_no_base_where_there_is_none() -> None:
    assert gaussian_base(Independent(Laplace(torch.zeros(4, 3), torch.ones(4, 3)), 1)) is None
    assert gaussian_base(Beta(torch.ones(3), torch.ones(3))) is None


def test_rsample_and_log_prob_of_torch_s_own() -> None:
    _, q = pair((4,), (3,))
    z, log_q = rsample_and_log_prob(q, (5,))
    assert z.shape == (5, 4, 3)
    assert_close(log_q, q.log_prob(z))


def test_rsample_and_log_prob_prefers_the_distribution_s_own() -> None:
    class Own(Normal):
        def rsample_and_log_prob(self, sample_shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.ones(sample_shape), torch.full(sample_shape, 7.0)

    z, log_q = rsample_and_log_prob(Own(0.0, 1.0), (2,))
    assert_close(z, torch.ones(2))
    assert_close(log_q, torch.full((2,), 7.0))


def test_analytic_kl_is_none_for_pairs_that_torch_does_not_know() -> None:
    q, _ = pair((4,), (3,))
    laplace = Independent(Laplace(torch.zeros(3), torch.ones(3)), 1)
    assert analytic_kl(q, laplace) is None
    known = analytic_kl(q, DiagonalNormal(torch.zeros(3).double(), torch.zeros(3).double()))
    assert known is not None
    assert known.shape == (4,)
