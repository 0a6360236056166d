"""The regularizer on an inference, on anything like a Normal, and on flows; its config and its plugin."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal
from uncollapse.config import BuildContext
from uncollapse.distributions import DiagonalNormal, standard_normal
from uncollapse.errors import ConfigError, ShapeError
from uncollapse.inference import Inference
from uncollapse.plugins import registry
from uncollapse.protocols import DataSpec
from uncollapse_kit import assert_conforms
from uncollapse_latents.flows import AutoregressiveAffine, NormalizingFlow
from uncollapse_mae import MutualDivergence, MutualDivergenceConfig, functional
from zuko.flows import MAF

CONTEXT = BuildContext(DataSpec((1, 2, 2), "binary"), latent_shape=(5,))


def inference_of(q: Distribution) -> Inference:
    z = q.rsample((1,))
    p_x = Independent(Bernoulli(logits=torch.zeros(1, len(z[0]), 1, 2, 2)), 3)
    return Inference(
        x=torch.zeros(len(z[0]), 1, 2, 2), h=z[0], q=q, z=z, p_z=standard_normal(tuple(q.event_shape)), p_x=p_x
    )


# ------------------------------------------------------------------------------------------------------------- penalty


def test_total_is_the_weighted_sum_of_unweighted_terms(moments: tuple[Tensor, Tensor]) -> None:
    penalty = MutualDivergence(eta=2.0, gamma=0.3)(inference_of(DiagonalNormal(*moments)))
    assert set(penalty.terms) == {"diverse", "smooth", "mutual_posterior_divergence"}
    expected = 2.0 * functional.diverse_paper(*moments) + 0.3 * functional.smooth_std(*moments)
    torch.testing.assert_close(penalty.total, expected)
    torch.testing.assert_close(penalty.terms["diverse"], functional.diverse_paper(*moments))
    torch.testing.assert_close(penalty.terms["smooth"], functional.smooth_std(*moments))
    mpd = functional.mutual_posterior_divergence(*moments)
    torch.testing.assert_close(penalty.terms["mutual_posterior_divergence"], mpd)


def test_variants_differ_and_are_named(moments: tuple[Tensor, Tensor]) -> None:
    q = DiagonalNormal(*moments)
    paper, released = (MutualDivergence(1.0, 0.0, v)(q).total for v in ("paper", "released"))
    torch.testing.assert_close(paper, functional.diverse_paper(*moments))
    torch.testing.assert_close(released, functional.diverse_released(*moments))
    assert released < paper


@pytest.mark.parametrize(("eta", "gamma"), [(0.0, 0.5), (1.0, 0.0), (0.0, 0.0)])
def test_a_weight_of_zero_skips_the_computation(
    eta: float, gamma: float, moments: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Tensor) -> Tensor:
        raise AssertionError("computed although its weight is zero")

    if eta == 0:
        monkeypatch.setattr("uncollapse_mae.regularizer.diverse_paper", refuse)
    if gamma == 0:
        monkeypatch.setattr("uncollapse_mae.regularizer.smooth_std", refuse)
    mean = moments[0].clone().requires_grad_()
    penalty = MutualDivergence(eta, gamma)(DiagonalNormal(mean, moments[1]))
    assert ("diverse" in penalty.terms, "smooth" in penalty.terms) == (eta > 0, gamma > 0)
    assert penalty.total.requires_grad == (eta + gamma > 0)
    assert penalty.total.shape == ()
    if eta + gamma == 0:
        assert penalty.total.item() == 0


def test_logged_divergence_carries_no_gradient(moments: tuple[Tensor, Tensor]) -> None:
    mean = moments[0].clone().requires_grad_()
    terms = MutualDivergence()(DiagonalNormal(mean, moments[1])).terms
    assert not terms["mutual_posterior_divergence"].requires_grad
    assert terms["diverse"].requires_grad
    assert terms["smooth"].requires_grad


@pytest.mark.parametrize("wrap", [lambda n: n, lambda n: Independent(n, 1)], ids=["Normal", "Independent"])
def test_torch_normal(wrap: Any, moments: tuple[Tensor, Tensor]) -> None:
    mean, logvar = (m.clone().requires_grad_() for m in moments)
    penalty = MutualDivergence(eta=1.0, gamma=0.5)(wrap(Normal(mean, (0.5 * logvar).exp())))
    expected = MutualDivergence(eta=1.0, gamma=0.5)(DiagonalNormal(mean, logvar))
    torch.testing.assert_close(penalty.total, expected.total)
    penalty.total.backward()
    assert mean.grad.abs().sum() > 0
    assert logvar.grad.abs().sum() > 0


def test_spatial_latents_are_flattened(moments: tuple[Tensor, Tensor]) -> None:
    flat = [m[:, :4] for m in moments]
    spatial = DiagonalNormal(*(m.reshape(9, 1, 2, 2) for m in flat), event_dim=3)
    found = MutualDivergence()(inference_of(spatial)).total
    torch.testing.assert_close(found, MutualDivergence()(DiagonalNormal(*flat)).total)


# --------------------------------------------------------------------------------------------------------------- flows


def test_flow_that_all_examples_share_is_compared_by_its_bases(moments: tuple[Tensor, Tensor]) -> None:
    base = DiagonalNormal(*(m.float() for m in moments))
    q = NormalizingFlow(AutoregressiveAffine(5, 16)(), base)
    torch.testing.assert_close(MutualDivergence()(q).total, MutualDivergence()(base).total)
    torch.testing.assert_close(MutualDivergence()(inference_of(q)).total, MutualDivergence()(base).total)


def test_flow_that_reads_the_example_is_refused() -> None:
    q = MAF(5, context=3)(torch.randn(9, 3))
    with pytest.raises(ConfigError, match=r"regularizers \(mae.mutual_divergence\): .* depends on the example"):
        MutualDivergence()(inference_of(q))


def test_flow_that_starts_as_if_it_read_nothing_is_refused_after_a_step() -> None:
    flow = MAF(5, context=3, transforms=1)
    for p in flow.parameters():
        nn.init.zeros_(p)
    regularizer, context = MutualDivergence(), torch.randn(9, 3)
    regularizer(flow(context))
    for p in flow.parameters():
        nn.init.normal_(p)
    with pytest.raises(ConfigError, match="depends on the example"):
        regularizer(flow(context))


def test_posterior_without_gaussian_base_is_refused() -> None:
    q = Independent(torch.distributions.Laplace(torch.zeros(4, 2), torch.ones(4, 2)), 1)
    with pytest.raises(ConfigError, match=r"regularizers \(mae.mutual_divergence\): .*found Independent.*gaussian"):
        MutualDivergence()(inference_of(q))


def test_base_whose_flow_cannot_be_looked_at_is_refused() -> None:
    class Opaque(Distribution):
        arg_constraints = {}  # noqa: RUF012 - torch's own signature
        base = DiagonalNormal(torch.randn(4, 2), torch.zeros(4, 2))

    with pytest.raises(ConfigError, match="no `transform`"):
        MutualDivergence()(Opaque(validate_args=False))


# -------------------------------------------------------------------------------------------------------------- errors


def test_one_example_has_no_pairs() -> None:
    with pytest.raises(ShapeError, match=r"a batch of 1 example has no pairs; use a larger data.batch_size, or .*drop"):
        MutualDivergence()(DiagonalNormal(torch.zeros(1, 2), torch.zeros(1, 2)))


@pytest.mark.parametrize("shape", [(4,), (3, 4, 2)])
def test_posterior_needs_one_batch_dimension(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"expected a posterior with batch \[B\] and event D"):
        MutualDivergence()(Normal(torch.zeros(shape), torch.ones(shape)))


@pytest.mark.parametrize("wrong", [{"eta": -1.0}, {"gamma": -0.1}, {"variant": "other"}])
def test_impossible_arguments(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"mae\.mutual_divergence"):
        MutualDivergence(**wrong)


# -------------------------------------------------------------------------------------------------------------- plugin


def test_is_registered() -> None:
    assert registry().find("regularizer", "mae.mutual_divergence") is MutualDivergenceConfig
    info = next(p for p in registry().plugins if p.name == "mae")
    assert (info.error, info.distribution) == (None, "uncollapse-mae")
    assert info.components == [("regularizer", "mae.mutual_divergence")]


def test_config_builds_what_it_says() -> None:
    built = MutualDivergenceConfig(eta=2.0, gamma=0.1, variant="released").build(CONTEXT)
    assert repr(built) == "MutualDivergence(eta=2.0, gamma=0.1, variant='released')"
    assert repr(MutualDivergenceConfig().build(CONTEXT)) == "MutualDivergence(eta=1.0, gamma=0.5, variant='paper')"


@pytest.mark.parametrize("wrong", [{"eta": -1}, {"gamma": -1}, {"variant": "mean"}, {"etta": 1}, {"eta": float("inf")}])
def test_config_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MutualDivergenceConfig(**wrong)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_conforms(variant: str) -> None:
    assert_conforms(MutualDivergenceConfig(eta=1.0, gamma=0.5, variant=variant))


def test_demo_turns_the_plain_vae_into_mae() -> None:
    fragments = dict(registry().demos())
    regularizers = fragments["mae"]["regularizers"]
    assert fragments["mae"]["name"] == "mae"
    assert [r["type"] for r in regularizers] == ["mae.mutual_divergence"]
    assert MutualDivergenceConfig.model_validate(regularizers[0]).eta > 1
