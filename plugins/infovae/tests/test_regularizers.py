"""MMD, Stein and the adversary on inferences and on samples; the two families of objectives; what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Laplace
from uncollapse.capabilities import supports
from uncollapse.config import BuildContext
from uncollapse.distributions import DiagonalNormal, standard_normal
from uncollapse.errors import ConfigError, ShapeError
from uncollapse.inference import Inference
from uncollapse.protocols import Adversarial, DataSpec, Progress
from uncollapse_infovae import MMD, AdversarialDivergence, AdversarialDivergenceConfig, Kernel, MMDConfig, Stein
from uncollapse_infovae.divergence import Divergence
from uncollapse_kit import reference_model

CONTEXT = BuildContext(DataSpec((1, 4, 4), "binary"), latent_shape=(5,), feature_shape=(12,))
BATCH = 24


def inference(samples: int = 1, latent: tuple[int, ...] = (5,)) -> Inference:
    context = BuildContext(CONTEXT.data, latent_shape=latent, feature_shape=(12,))
    model = reference_model(context)
    found: Inference = model(torch.bernoulli(torch.full((BATCH, 1, 4, 4), 0.3)), samples=samples)
    return found


def every() -> list[Divergence]:
    return [MMD(weight=7.0), Stein(weight=7.0), AdversarialDivergence(5, weight=7.0, hidden=(16,))]


def value(divergence: Divergence, *arguments: Any) -> Tensor:
    torch.manual_seed(3)
    return divergence(*arguments).total


# ------------------------------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize("divergence", every(), ids=lambda d: d.name)
def test_alpha_of_one_is_the_first_paper_s_objective(divergence: Divergence) -> None:
    """``(1 - alpha) rate + (alpha + lambda - 1) D``: at alpha = 1 that is lambda D."""
    of = inference()
    unit = value(divergence, of) / 7.0
    for alpha, weight in ((1.0, 7.0), (0.25, 7.0), (-2.0, 4.0), (0.0, 1.0)):
        divergence.alpha, divergence.weight = alpha, weight
        expected = (1 - alpha) * of.rate().mean() + (alpha + weight - 1) * unit
        torch.testing.assert_close(value(divergence, of), expected)


def test_alpha_moves_the_rate() -> None:
    of = inference()
    mean, rate = of.q.mean, of.rate().mean()
    total = value(MMD(weight=1.0, alpha=0.0), of)
    (found,) = torch.autograd.grad(total, mean, retain_graph=True)
    (expected,) = torch.autograd.grad(rate, mean)
    # alpha = 0 and lambda = 1 are the ELBO: no divergence at all.
    torch.testing.assert_close(found, expected)


def test_samples_alone_do_not_tell_the_rate() -> None:
    with pytest.raises(ConfigError, match=r"infovae.mmd: alpha = 0.5 needs the rate, .* pass the Inference"):
        MMD(weight=1.0, alpha=0.5)(torch.randn(4, 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": 0.0}, "weight, the paper's lambda, must be positive; found 0"),
        ({"weight": 1.0, "alpha": 1.5}, "alpha must be at most 1"),
        ({"weight": 1.0, "alpha": -1.0}, "alpha \\+ weight must be at least 1, found -1 \\+ 1"),
        ({"weight": 1.0, "statistic": "w"}, "statistic must be one of v, u"),
    ],
)
def test_impossible_weights(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"infovae.mmd: {message}"):
        MMD(**options)
    with pytest.raises(ValueError, match=next(iter(set(options) - {"weight"}), "weight")):
        MMDConfig(**options)


def test_the_released_weight_counts_the_pixels() -> None:
    """Units: the released script averages over pixels, so a weight of 1 there is the number of pixels here."""
    assert MMDConfig().build(CONTEXT).weight == 16
    grey = BuildContext(DataSpec((1, 28, 28), "unit_interval"), latent_shape=(20,))
    assert MMDConfig().build(grey).weight == 784
    assert MMDConfig(weight=39200).build(grey).weight == 39200


# ----------------------------------------------------------------------------------------------------------------- MMD


def test_samples_are_compared_not_means() -> None:
    """Trap: means of a collapsed posterior all lie at the origin, its samples fill the prior."""
    mean = torch.zeros(400, 3)
    q = DiagonalNormal(mean, torch.zeros(400, 3))
    of_samples, of_means = MMD(1.0)(q.rsample()).total, MMD(1.0)(mean).total
    assert of_samples < 0.05 * of_means


def test_gradient_flows_through_the_samples_to_both_moments() -> None:
    of = inference()
    total = MMD(1.0, Kernel(bandwidth="dimension"))(of).total
    for gradient in torch.autograd.grad(total, (of.q.mean, of.q.logvar)):  # type: ignore[attr-defined]
        assert (gradient != 0).all()


def test_the_prior_is_drawn_from_anew_at_every_call() -> None:
    mmd, z = MMD(1.0), torch.randn(20, 2)
    assert mmd(z).total != mmd(z).total


def test_number_of_prior_samples() -> None:
    class Counting(DiagonalNormal):
        def rsample(self, sample_shape: Any = ()) -> Tensor:
            counts.append(tuple(sample_shape))
            return super().rsample(sample_shape)

    counts: list[tuple[int, ...]] = []
    prior = Counting(torch.zeros(3), torch.zeros(3))
    for asked in (None, 7):
        MMD(1.0, prior_samples=asked)(torch.randn(11, 3), prior)
    assert counts == [(11,), (7,)]


def test_several_samples_an_example_are_averaged_over() -> None:
    of = inference(samples=3)
    each = torch.stack([value(MMD(2.0), z, of.p_z) for z in of.z])
    torch.testing.assert_close(value(MMD(2.0), of), each.mean())


def test_a_learned_prior_is_moved() -> None:
    location = torch.full((2,), 3.0, requires_grad=True)
    prior = DiagonalNormal(location, torch.zeros(2))
    (gradient,) = torch.autograd.grad(MMD(1.0, Kernel(bandwidth=20.0))(torch.randn(50, 2), prior).total, location)
    assert (gradient > 0).all(), "descent takes the prior towards the codes"


def test_float64_codes_stay_float64() -> None:
    assert MMD(1.0)(torch.randn(5, 2, dtype=torch.float64)).total.dtype == torch.float64


@pytest.mark.parametrize("divergence", [MMD(2.0), Stein(2.0)], ids=lambda d: d.name)
def test_spatial_latents_are_flattened(divergence: Divergence) -> None:
    z = torch.randn(10, 2, 3, 2)
    flat = value(divergence, z.flatten(1), standard_normal((12,)))
    torch.testing.assert_close(value(divergence, z), flat)


@pytest.mark.parametrize("divergence", every(), ids=lambda d: d.name)
def test_samples_must_fit_the_prior(divergence: Divergence) -> None:
    with pytest.raises(ShapeError, match=rf"{divergence.name}: expected samples \[B, \*D\] .*\(3,\), found \(4, 5\)"):
        divergence(torch.zeros(4, 5), standard_normal((3,)))


# --------------------------------------------------------------------------------------------------------------- Stein


def test_stein_reports_a_discrepancy_and_descends_the_surrogate() -> None:
    """The penalty's value is the discrepancy, which tells models apart; its gradient is the surrogate's."""
    wide = 2 * torch.randn(200, 3)
    penalty = Stein(4.0)(wide.requires_grad_())
    torch.testing.assert_close(penalty.total, 4 * penalty.terms["stein_discrepancy"])
    assert penalty.total > 4 * Stein(4.0)(torch.randn(200, 3)).total > 0
    assert set(penalty.terms) == {"stein_discrepancy", "surrogate"}
    assert not any(t.requires_grad for t in penalty.terms.values())


def test_stein_descent_spreads_narrow_codes_and_gathers_wide_ones() -> None:
    for scale in (0.2, 3.0):
        z = (scale * torch.randn(100, 2)).requires_grad_()
        (gradient,) = torch.autograd.grad(Stein(1.0)(z).total, z)
        radial = -(gradient * z.detach()).sum().item()
        assert radial > 0 if scale < 1 else radial < 0


def test_stein_takes_any_prior_with_a_density() -> None:
    """By autograd on ``log_prob`` as by the closed form of a Gaussian; also where gradients are off."""
    z = torch.randn(30, 3)
    gaussian = DiagonalNormal(torch.ones(3), torch.full((3,), 0.4))
    as_torch = Independent(torch.distributions.Normal(torch.ones(3), math.exp(0.2)), 1)
    with torch.no_grad():
        torch.testing.assert_close(Stein(1.0)(z, as_torch).total, Stein(1.0)(z, gaussian).total)
        laplace: Distribution = Independent(Laplace(torch.zeros(3), torch.ones(3)), 1)
        assert Stein(1.0)(z, laplace).total.isfinite()


def test_stein_of_one_code() -> None:
    """The last batch of a validation may hold a single example: the direction is then the score."""
    z = torch.tensor([[2.0, -1.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(Stein(3.0)(z).total, z)
    torch.testing.assert_close(gradient, 3 * z.detach())


@pytest.mark.parametrize("bandwidth", ["released", -1.0])
def test_impossible_stein_bandwidth(bandwidth: Any) -> None:
    with pytest.raises(ConfigError, match=r"infovae.stein: bandwidth must be a positive number or one of median"):
        Stein(bandwidth=bandwidth)


# ----------------------------------------------------------------------------------------------------------- adversary


@pytest.mark.parametrize("variant", ["non_saturating", "jensen_shannon"])
def test_the_two_sides_never_reach_one_another(variant: Any) -> None:
    of = inference()
    regularizer = AdversarialDivergence(5, variant=variant, hidden=(16,))
    regularizer(of).total.backward(retain_graph=True)
    assert all(p.grad is None for p in regularizer.adversary.parameters()), "the encoder's step moves the opponent"
    q: Any = of.q
    of_codes = torch.autograd.grad(regularizer(of).total, (q.mean, q.logvar), retain_graph=True)
    assert all(bool(g.any()) for g in of_codes)
    loss = regularizer.adversary_loss(of)
    reached = torch.autograd.grad(loss, (q.mean, q.logvar), allow_unused=True, retain_graph=True)
    assert reached == (None, None), "the opponent's step moves the encoder"
    assert all(bool(g.any()) for g in torch.autograd.grad(loss, list(regularizer.adversary.parameters())))


def test_losses_of_a_known_discriminator() -> None:
    """With ``T(z) = w z``, by the definitions."""
    regularizer = AdversarialDivergence(1, weight=2.0, hidden=())
    with torch.no_grad():
        regularizer.adversary.net[0].weight.fill_(0.7)
        regularizer.adversary.net[0].bias.zero_()
    z = torch.tensor([[0.5], [-2.0], [1.0]])
    torch.manual_seed(3)
    prior = torch.randn(3, 1)
    true, false = (0.7 * prior).sigmoid().log().mean(), (-0.7 * z).sigmoid().log().mean()
    divergence = math.log(2) + (true + false) / 2
    torch.testing.assert_close(value(regularizer, z), -2 * (0.7 * z).sigmoid().log().mean())
    regularizer.variant = "jensen_shannon"
    torch.testing.assert_close(value(regularizer, z), 2 * divergence)
    torch.manual_seed(3)
    torch.testing.assert_close(regularizer.adversary_loss(z), math.log(2) - divergence)


def test_a_trained_discriminator_estimates_the_jensen_shannon_divergence() -> None:
    """Codes of ``N(2, 1)`` against the prior: the bound nears the divergence, by quadrature, from below."""
    regularizer = AdversarialDivergence(1, hidden=(32,), adversary_lr=1e-2)
    optimizer = torch.optim.Adam(regularizer.adversary.parameters(), lr=regularizer.adversary_lr)
    for _ in range(150):
        optimizer.zero_grad()
        regularizer.adversary_loss(2 + torch.randn(500, 1)).backward()
        optimizer.step()
    grid = torch.linspace(-8, 10, 4001, dtype=torch.float64)
    p, q = (torch.distributions.Normal(float(m), 1.0).log_prob(grid).exp() for m in (0, 2))
    both = torch.special.xlogy(p, 2 * p / (p + q)) + torch.special.xlogy(q, 2 * q / (p + q))
    truth = 0.5 * both.sum().item() * 18 / 4000
    found = regularizer(2 + torch.randn(20_000, 1)).terms["jensen_shannon"].item()
    assert truth - 0.02 < found < truth + 0.01


def test_optimizer_of_the_opponent_is_the_pipeline_s() -> None:
    config = AdversarialDivergenceConfig(hidden=(8,), optimizer={"type": "sgd", "lr": 0.05, "momentum": 0.5})
    regularizer = config.build(CONTEXT)
    assert supports(regularizer, Adversarial)
    assert regularizer.adversary_lr == 0.05
    optimizer = regularizer.adversary_optimizer(regularizer.adversary.parameters())
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.param_groups[0]["momentum"] == 0.5
    assert AdversarialDivergenceConfig().optimizer.lr == 1e-4


def test_unknown_variant() -> None:
    with pytest.raises(
        ConfigError, match=r"infovae\.adversarial: variant must be one of non_saturating, jensen_shannon"
    ):
        AdversarialDivergence(2, variant="wasserstein")


# --------------------------------------------------------------------------------------------------------- global batch


@pytest.mark.parametrize("divergence", [MMD(7.0), Stein(7.0)], ids=lambda d: d.name)
def test_shares_of_a_batch_have_the_gradient_of_the_whole(divergence: Divergence) -> None:
    """Each process sees the global batch through ``gathered()``; gradients are averaged over two of them.

    The draws of the prior are the same on both, which the conformance kit, comparing values, leaves to chance.
    """
    from uncollapse_kit.reference import shares_of

    model = reference_model(CONTEXT, echo=True)
    whole: Inference = model(torch.bernoulli(torch.full((BATCH, 1, 4, 4), 0.3)), progress=Progress())
    leaves = (whole.q.mean, whole.q.logvar)  # type: ignore[attr-defined]
    expected = torch.autograd.grad(value(divergence, whole), leaves, retain_graph=True)
    found = torch.autograd.grad(torch.stack([value(divergence, s) for s in shares_of(model, whole)]).mean(), leaves)
    for one, two in zip(expected, found, strict=True):
        torch.testing.assert_close(two, one)
