"""Mixture conditionals, the entropy regularizer, reconstructions, and the plugin as a whole."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from uncollapse.config import BuildContext, ComponentConfig
from uncollapse.errors import ConfigError
from uncollapse.objectives import ELBO
from uncollapse.plugins import registry
from uncollapse.protocols import Batch, DataSpec, Progress
from uncollapse_kit import assert_conforms
from uncollapse_mim import (
    AMIM,
    AMIMConfig,
    GaussianMixture,
    JointEntropy,
    JointEntropyConfig,
    KSGConfig,
    MIMConfig,
    MixtureLikelihoodConfig,
    MixturePosteriorConfig,
    PCAFashionMNISTConfig,
    SampledReconstruction,
    SampledReconstructionConfig,
)
from uncollapse_mim.plugin import uncollapse_components
from uncollapse_report.demo import demo_pipelines

# The images need a folder, and MIM is tried with its options below.
COMPONENTS = [c for c in uncollapse_components() if c not in (PCAFashionMNISTConfig, MIMConfig)]


def mixture(dimensions: int, components: int = 3) -> GaussianMixture:
    logits = torch.randn(components, dtype=torch.float64, requires_grad=True)
    mean = torch.randn(components, dimensions, dtype=torch.float64, requires_grad=True)
    logvar = (0.3 * torch.randn(components, dimensions, dtype=torch.float64)).requires_grad_()
    q = GaussianMixture(logits, mean, logvar)
    q.leaves = (logits, mean, logvar)  # type: ignore[attr-defined]
    return q


@pytest.mark.parametrize("dimensions", [1, 2])
def test_gradient_through_mixture_samples_is_unbiased(dimensions: int) -> None:
    def value(x: Tensor) -> Tensor:
        return torch.sin(1.3 * x[..., 0]) * x[..., -1] + x[..., -1].square()

    q: Any = mixture(dimensions)
    axis = torch.linspace(-8, 8, 400, dtype=torch.float64)
    grid = torch.cartesian_prod(*[axis] * dimensions).view(-1, dimensions)
    volume = (axis[1] - axis[0]) ** dimensions
    density = q.log_prob(grid).exp() * volume
    assert density.sum().item() == pytest.approx(1, abs=1e-6)
    expected = torch.autograd.grad((density * value(grid)).sum(), q.leaves, retain_graph=True)
    found = [torch.autograd.grad(value(q.rsample((5000,))).mean(), q.leaves, retain_graph=True) for _ in range(20)]
    for e, draws in zip(expected, zip(*found, strict=True), strict=True):
        rows = torch.stack(draws)
        error = rows.std(0) / math.sqrt(len(rows))
        assert ((rows.mean(0) - e).abs() < 5 * error + 1e-9).all()
        assert error.max() < 0.1 * max(1.0, e.abs().max().item())


def test_mixture_moments_and_batches() -> None:
    q = mixture(2)
    x = q.sample((20_000,))
    assert torch.allclose(x.mean(0), q.mean, atol=0.05)
    assert torch.allclose(x.var(0), q.variance, atol=0.1)
    large = q.expand((4, 2))
    assert large.sample((5,)).shape == (5, 4, 2, 2)
    assert torch.allclose(large.log_prob(x[:8].view(4, 2, 2)), q.log_prob(x[:8]).view(4, 2))
    z = large.rsample((3,))
    assert torch.autograd.grad(z.sum(), q.leaves[1])[0].abs().sum() > 0  # type: ignore[attr-defined]


def test_mixture_likelihood_is_one_of_vectors() -> None:
    with pytest.raises(ConfigError, match=r"is one of vectors, found data of shape \(1, 4, 4\)"):
        MixtureLikelihoodConfig().build(BuildContext(DataSpec((1, 4, 4), "real")))
    likelihood: Any = MixtureLikelihoodConfig(components=4).build(BuildContext(DataSpec((3,), "real")))
    assert likelihood.output_channels == 28
    p = likelihood(torch.randn(2, 5, 28))
    assert (p.batch_shape, p.event_shape) == ((2, 5), (3,))


# ---------------------------------------------------------------------------------------------------------- regularizer


def test_vae_with_entropy_is_the_sum_of_both(linear: Any) -> None:
    """VAE+H with the marginal q(x): -2 (log p(x|z) + log p(z)) + log q(z|x)."""
    model, batch = linear.model(), Batch(linear.data(64))
    loss = ELBO(rate="monte_carlo")(model, batch, Progress())
    penalty = JointEntropy()(loss.inference)
    i = loss.inference
    expected = (-2 * (i.log_p_x + i.log_p_z) + i.log_q).mean()
    assert torch.allclose(loss.total + penalty.total, expected)
    assert torch.allclose(JointEntropy(0.3)(i).total, 0.3 * penalty.total)
    assert torch.allclose(penalty.terms["joint_entropy"].mean(), penalty.total)


def test_entropy_with_a_density_of_the_data() -> None:
    context = BuildContext(DataSpec((2,), "real"), (3,))
    regularizer: Any = JointEntropyConfig(q_x={"type": "gaussian_mixture", "components": 4}).build(context)
    assert regularizer.q_x.mean.shape == (4, 2)
    assert len(list(regularizer.parameters())) == 3
    with pytest.raises(ConfigError, match="needs the decoder, which a regularizer does not see"):
        JointEntropyConfig(q_x={"type": "vampprior", "from_data": False}).build(context)


# ------------------------------------------------------------------------------------------------------ reconstructions


class Shift(nn.Module):
    """A decoder that misses by one, for sure."""

    def forward(self, z: Tensor) -> Any:
        from uncollapse.distributions import DiagonalNormal

        return DiagonalNormal(z + 1.0, torch.full_like(z, -60.0))


def test_reconstruction_by_both_readings(linear: Any) -> None:
    model = linear.model(slope=1.0, variance=1e-12)
    model.decoder = Shift()
    x = linear.data(100)
    found = SampledReconstruction()(model, lambda: [Batch(x)])
    assert found["reconstruction_rmse"].value == pytest.approx(1.0, abs=1e-4)
    assert found["reconstruction_mean_norm"].value == pytest.approx(1.0, abs=1e-4)
    assert found["reconstruction_rmse"].count == 100
    # The root of the mean square is above the mean of the norms wherever these differ.
    model = linear.model()
    both = SampledReconstruction(examples=1000)(model, lambda: [Batch(linear.data(5000))])
    # x' given x has twice the posterior's spread: E (x - x')^2 = 2 Var(x) (1 - cov), here by the exact encoder.
    b, v = linear.a / linear.x_variance, linear.s2 / linear.x_variance
    expected = (1 - linear.a * b) ** 2 * linear.x_variance + linear.a**2 * v + linear.s2
    rmse, norm = (both[f"reconstruction_{n}"] for n in ("rmse", "mean_norm"))
    assert rmse.count == norm.count == 1000
    assert rmse.value == pytest.approx(math.sqrt(expected), abs=5 * rmse.standard_error)
    assert norm.value == pytest.approx(math.sqrt(2 * expected / math.pi), abs=5 * norm.standard_error)
    smaller = SampledReconstruction("mean")(model, lambda: [Batch(linear.data(5000))])
    assert smaller["reconstruction_rmse"].value < 0.95 * rmse.value


@pytest.mark.parametrize("config", [KSGConfig(), SampledReconstructionConfig()])
def test_tokens_have_no_distance(config: Any) -> None:
    with pytest.raises(ConfigError, match="measures distances, which tokens do not have"):
        config.build(BuildContext(DataSpec((5,), "tokens", vocabulary_size=7), (4,)))


# --------------------------------------------------------------------------------------------------------------- plugin


def test_is_registered() -> None:
    info = next(p for p in registry().plugins if p.name == "mim")
    assert (info.error, info.distribution) == (None, "uncollapse-mim")
    assert sorted(info.components) == sorted((c.kind, c.type_name()) for c in uncollapse_components())


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda c: f"{c.kind}:{c.type_name()}")
def test_conforms(component: type[ComponentConfig]) -> None:
    assert_conforms(component)


@pytest.mark.parametrize(
    "config",
    [
        AMIMConfig(loss="cross_entropy", beta={"type": "linear", "until_epoch": 3}, samples=2),
        MIMConfig(
            halves="sum",
            decode_half="after_warmup",
            warmup="released_image",
            decode_q_x="reencoded",
            anchor=None,
            decoded="mean",
        ),
        MIMConfig(gradient="reinforce", baseline="leave_one_out", loss="mim_minus_entropy", decode_examples=3),
        MIMConfig(q_x={"type": "vampprior", "components": 5, "from_data": False, "mean": 0.0, "std": 1.0}),
        MixturePosteriorConfig(latent_dim=1, components=2),
    ],
    ids=["cross_entropy", "released", "reinforce", "q_x", "one dimension"],
)
def test_conforms_with_options(config: ComponentConfig) -> None:
    data = DataSpec((1, 4, 4), "binary", classes=3)
    latent = tuple(config.latent_shape) if isinstance(config, MixturePosteriorConfig) else (3,)
    assert_conforms(config, context=BuildContext(data, latent, (6,), steps_per_epoch=5, epochs=12))


def test_projected_images_conform(shared_data: Path) -> None:
    assert_conforms(
        PCAFashionMNISTConfig(
            root=str(shared_data), limit=600, validation=300, components=4, augment=True, dequantize=True
        )
    )  # fmt: skip


def test_demo_turns_the_plain_vae_into_amim() -> None:
    pipelines = demo_pipelines()
    plain, amim = pipelines["vae"].config, pipelines["amim"].config
    assert isinstance(amim.objective, AMIMConfig)
    assert isinstance(amim.objective.build(BuildContext(DataSpec((1, 8, 8), "binary"))), AMIM)
    same = plain.model.posterior.model_copy(update={"logvar_range": (-6.0, 2.0)})
    assert amim.model == plain.model.model_copy(update={"posterior": same})
    assert (amim.data, amim.training, amim.evaluation) == (plain.data, plain.training, plain.evaluation)
