"""The regularizer: what each reading and variant does and does not do, several processes, what is refused."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Laplace, Normal
from uncollapse.config import BuildContext
from uncollapse.distributions import DiagonalNormal
from uncollapse.errors import ConfigError, ShapeError
from uncollapse.inference import Gathered, Inference
from uncollapse.plugins import registry
from uncollapse.protocols import DataSpec
from uncollapse_kit import assert_conforms, reference_model
from uncollapse_latents.flows import AutoregressiveAffine, NormalizingFlow
from uncollapse_muvae import ModifiedKL, ModifiedKLConfig
from uncollapse_muvae.functional import LOG_VARIANCE_TERMS, MEAN_TERMS, logvar_term, mean_term

CONTEXT = BuildContext(DataSpec((1, 4, 4), "binary"), latent_shape=(5,), feature_shape=(12,))


def inference(count: int = 6) -> Inference:
    found: Inference = reference_model(CONTEXT)(torch.bernoulli(torch.full((count, 1, 4, 4), 0.3)))
    return found


def descended(variant: str, steps: int) -> Tensor:
    """Return what Adam makes of log-variances that start around zero."""
    logvar = torch.linspace(-1, 1, 8).view(2, 4).requires_grad_()
    optimizer = torch.optim.Adam([logvar], lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        logvar_term(logvar, variant).backward()  # type: ignore[arg-type, no-untyped-call]
        optimizer.step()
    return logvar.detach()


# ------------------------------------------------------------------------------------------------------------ gradients


def test_slopes_of_the_mean_term() -> None:
    """The same for every entry, every row, every column; or every entry by itself."""
    mean = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    signs = {
        "global": mean.sum().sign().expand(7, 3),
        "per_example": mean.sum(1, keepdim=True).sign().expand(7, 3),
        "per_dimension": mean.sum(0).sign().expand(7, 3),
        "elementwise": mean.sign(),
    }
    for reading in MEAN_TERMS:
        (grad,) = torch.autograd.grad(mean_term(mean, reading), mean)
        torch.testing.assert_close(grad, signs[reading].detach() / 7)


def test_only_per_dimension_centers_every_dimension_and_keeps_the_spread() -> None:
    """The claim of section 4: what descent leaves of means that start off center."""
    start = torch.randn(32, 4, dtype=torch.float64) + torch.tensor([2.0, -1.0, 3.0, -2.0])
    centers, spread = {}, {}
    for reading in MEAN_TERMS:
        mean = start.clone().requires_grad_()
        for _ in range(400):
            (grad,) = torch.autograd.grad(mean_term(mean, reading), mean)
            mean = (mean - 0.4 * grad).detach().requires_grad_()
        centers[reading] = mean.detach().mean(0).abs().max().item()
        spread[reading] = mean.detach().std(0).mean().item()
    assert centers["per_dimension"] < 0.02
    assert spread["per_dimension"] > 0.8
    assert min(centers["global"], centers["per_example"]) > 1.0
    assert spread["elementwise"] < 0.05


def test_only_two_log_variance_terms_have_their_minimum_at_zero() -> None:
    ends = {variant: descended(variant, 200).abs().max().item() for variant in LOG_VARIANCE_TERMS}
    assert ends["full"] < 0.05
    assert ends["absolute"] < 0.1
    assert ends["linear"] > 8.0
    assert ends["exp_minus_one"] > 3.0
    far = torch.full((2, 4), -1e3)
    assert logvar_term(far, "exp_minus_one").item() == -4.0
    assert logvar_term(far, "linear").item() == -4e3


def test_full_term_is_what_eq_3_has_beside_the_squares() -> None:
    mean, logvar = torch.randn(5, 3), torch.randn(5, 3)
    rate = 0.5 * (mean.square() + logvar.exp() - logvar - 1).sum(1).mean()
    torch.testing.assert_close(rate, 0.5 * mean.square().sum(1).mean() + 0.5 * logvar_term(logvar, "full"))


# -------------------------------------------------------------------------------------------------------------- penalty


def test_total_is_the_weighted_sum_of_unweighted_terms() -> None:
    of = inference()
    penalty = ModifiedKL("per_dimension", "full", weight=0.3)(of)
    q = of.q
    assert isinstance(q, DiagonalNormal)
    expected = {"mean": mean_term(q.mean, "per_dimension"), "logvar": logvar_term(q.logvar, "full")}
    assert penalty.terms.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(penalty.terms[name], value)
    torch.testing.assert_close(penalty.total, 0.3 * (expected["mean"] + expected["logvar"]))


def test_defaults_are_table_3() -> None:
    config = ModifiedKLConfig()
    assert (config.mean, config.logvar, config.weight) == ("global", "linear", 1.0)
    mean, logvar = torch.tensor([[5.0, 1.0], [-1.0, -2.0]]), torch.tensor([[0.5, 0.0], [-1.0, -0.25]])
    assert config.build(CONTEXT)(DiagonalNormal(mean, logvar)).total.item() == (3.0 - 0.75) / 2


@dataclass(frozen=True)
class _Second(Inference):
    """One process of two: the other's moments are known."""

    other: tuple[Tensor, Tensor] | None = None

    def gathered(self) -> Gathered:
        assert self.base is not None
        assert self.other is not None
        moments = (self.base.mean, self.base.logvar)
        return Gathered(DiagonalNormal(*(torch.cat(m) for m in zip(self.other, moments, strict=True))), self.z)


def test_the_batch_is_the_global_one() -> None:
    """The mean of the processes' own absolute sums is something else."""
    of, other = inference(), (torch.randn(6, 5) + 3, torch.randn(6, 5))
    fields = {name: getattr(of, name) for name in ("x", "h", "q", "z", "p_z", "p_x")}
    for reading in MEAN_TERMS:
        found = ModifiedKL(reading)(_Second(**fields, other=other))
        assert of.base is not None
        whole = DiagonalNormal(torch.cat((other[0], of.base.mean)), torch.cat((other[1], of.base.logvar)))
        torch.testing.assert_close(found.total, ModifiedKL(reading)(whole).total)


@pytest.mark.parametrize("wrap", [lambda n: n, lambda n: Independent(n, 1)], ids=["Normal", "Independent"])
def test_torch_normal(wrap: Any) -> None:
    mean, logvar = torch.randn(4, 3), torch.randn(4, 3)
    found = ModifiedKL()(wrap(Normal(mean, (0.5 * logvar).exp()))).total
    torch.testing.assert_close(found, ModifiedKL()(DiagonalNormal(mean, logvar)).total)


def test_spatial_latents_are_sums_over_all_their_numbers() -> None:
    mean, logvar = torch.randn(6, 4), torch.randn(6, 4)
    for reading in MEAN_TERMS:
        spatial = DiagonalNormal(mean.view(6, 1, 2, 2), logvar.view(6, 1, 2, 2), event_dim=3)
        flat = DiagonalNormal(mean, logvar)
        torch.testing.assert_close(ModifiedKL(reading)(spatial).total, ModifiedKL(reading)(flat).total)


# -------------------------------------------------------------------------------------------------------------- refused


def flow() -> Distribution:
    return NormalizingFlow(AutoregressiveAffine(3, 8)(), DiagonalNormal(torch.zeros(4, 3), torch.zeros(4, 3)))


@pytest.mark.parametrize("q", [lambda: Independent(Laplace(torch.zeros(4, 2), torch.ones(4, 2)), 1), flow])
def test_other_posteriors_are_refused(q: Any) -> None:
    of = replace(inference(4), q=q())
    with pytest.raises(ConfigError, match=r"regularizers \(muvae.modified_kl\): .* found \w+; use model.posterior"):
        ModifiedKL()(of)


@pytest.mark.parametrize("shape", [(4,), (3, 4, 2)])
def test_posterior_needs_one_batch_dimension(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"expected a posterior with batch \[B\] and event D"):
        ModifiedKL()(Normal(torch.zeros(shape), torch.ones(shape)))


@pytest.mark.parametrize("wrong", [{"mean": "l1"}, {"logvar": "square"}, {"weight": 0.0}])
def test_impossible_arguments(wrong: dict[str, Any]) -> None:
    field = next(iter(wrong))
    with pytest.raises(ConfigError, match=rf"muvae\.modified_kl: {field} must be"):
        ModifiedKL(**wrong)
    with pytest.raises(ValueError, match=field):
        ModifiedKLConfig(**wrong)


# --------------------------------------------------------------------------------------------------------------- plugin


def test_is_registered() -> None:
    info = next(p for p in registry().plugins if p.name == "muvae")
    assert (info.error, info.distribution) == (None, "uncollapse-muvae")
    assert set(info.components) == {
        ("regularizer", "muvae.modified_kl"),
        ("moment_transform", "muvae.latent_clipping"),
        ("observer", "muvae.classifier"),
        ("probe", "muvae.mlp"),
        ("sampler", "muvae.traversal"),
    }


@pytest.mark.parametrize("fields", [{}, {"mean": "per_dimension", "logvar": "full"}, {"mean": "per_example"}])
def test_conforms(fields: dict[str, Any]) -> None:
    assert_conforms(ModifiedKLConfig(**fields))


def test_demo_turns_the_plain_vae_into_mu_vae() -> None:
    fragment = dict(registry().demos())["muvae"]
    assert fragment["name"] == "muvae"
    assert fragment["objective"] == {"type": "reconstruction"}
    assert [r["type"] for r in fragment["regularizers"]] == ["muvae.modified_kl"]
    moments = fragment["model"]["posterior"]["moments"]
    assert [m["type"] for m in moments] == ["muvae.latent_clipping"]
    # Without a floor the default log-variance term has no minimum.
    low, high = fragment["model"]["posterior"]["logvar_range"]
    assert math.isfinite(low)
    assert low < 0 < high
