"""The flow posterior: its head, its base, and free bits of its dimensions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.testing import assert_close
from uncollapse.config import BuildContext
from uncollapse.decoders import MLPDecoder
from uncollapse.distributions import StandardNormal
from uncollapse.encoders import MLPEncoder
from uncollapse.errors import ConfigError
from uncollapse.likelihoods import BernoulliLikelihood
from uncollapse.model import LatentVariableModel
from uncollapse.objectives import ELBO, FreeBits, free_bits
from uncollapse.priors import StandardNormalPrior
from uncollapse.protocols import Batch, DataSpec, Progress
from uncollapse_latents.posteriors import InverseAutoregressivePosterior
from uncollapse_latents.posteriors.iaf import InverseAutoregressivePosteriorConfig
from uncollapse_latents.priors import AutoregressivePrior

H, D, B = 6, 3, 5


def posterior(**fields: Any) -> InverseAutoregressivePosterior:
    return InverseAutoregressivePosterior((H,), D, **{"hidden": 8, **fields})


@pytest.mark.parametrize("scale", ["softplus", "exp"])
def test_head_is_mean_scale_and_context(scale: Any) -> None:
    q, h = posterior(scale=scale).double(), torch.randn(B, H).double()
    mean, argument, context = q.head(h).split([D, D, 2 * D], dim=1)
    found = q(h)
    assert_close(found.base.mean, mean)
    assert_close(found.base.stddev, nn.functional.softplus(argument) if scale == "softplus" else argument.exp())
    assert found.flow.context is not None
    assert_close(found.flow.context, context)


@pytest.mark.parametrize("scale", ["softplus", "exp"])
def test_a_collapsing_scale_stays_finite(scale: Any) -> None:
    q = posterior(scale=scale)
    q.head.weight.data.zero_()
    q.head.bias.data[D : 2 * D] = torch.tensor([-500.0, -30.0, 40.0])
    logvar = q(torch.zeros(2, H)).base.logvar
    expected = [-1000.0, -60.0, 80.0 if scale == "exp" else 2 * torch.tensor(40.0).log().item()]
    assert_close(logvar[0], torch.tensor(expected))
    logvar.sum().backward()
    assert q.head.bias.grad is not None
    assert bool(q.head.bias.grad.isfinite().all())
    assert float(q.head.bias.grad[D]) == pytest.approx(4.0)


def test_context_tells_examples_apart_and_without_it_they_share_the_flow() -> None:
    h, eps = torch.randn(B, H), torch.randn(D).expand(B, D)
    with torch.no_grad():
        conditioned, shared = (posterior(context=size)(h).flow(eps) for size in (4, 0))
    assert float((conditioned - conditioned[:1]).abs().max()) > 1e-3
    assert_close(shared, shared[:1].expand(B, D))


def test_moment_transforms_see_the_base() -> None:
    class Halved(nn.Module):
        def forward(self, mean: Any, logvar: Any, progress: Progress | None = None) -> Any:
            return mean / 2, logvar + (1.0 if progress is not None and progress.final else 0.0)

    q, h = posterior(moments=[Halved()]), torch.randn(B, H)
    mean, argument, _ = q.head(h).split([D, D, 2 * D], dim=1)
    found = q(h, Progress.at_end())
    assert_close(found.base.mean, mean / 2)
    assert_close(found.base.logvar, 2 * nn.functional.softplus(argument).log() + 1)


def test_one_dimension_has_no_context_that_nothing_would_read() -> None:
    q = InverseAutoregressivePosterior((H,), 1, context=7)
    assert q.head.out_features == 2
    assert {n for n, _ in q.steps[0].named_parameters()} == {"gate_bias", "made.constant"}


def test_config() -> None:
    config = InverseAutoregressivePosteriorConfig(latent_dim=4)
    built = config.build(BuildContext(DataSpec((6,), "real"), config.latent_shape, (H,)))
    assert built.latent_shape == (4,)
    assert built.context_size == 8
    step: Any = built.steps[0]
    assert [layer.out_features for layer in step.made.layers] == [240, 240, 8]
    for wrong in ({}, {"latent_dim": 0}, {"latent_dim": [2, 2]}, {"latent_dim": 2, "context": -1}):
        with pytest.raises(ValidationError):
            InverseAutoregressivePosteriorConfig.model_validate(wrong)
    with pytest.raises(ValidationError):
        InverseAutoregressivePosteriorConfig.model_validate({"latent_dim": 2, "scale": "sigmoid"})


# ----------------------------------------------------------------------------------------------------------- free bits


def test_free_bits_are_those_of_the_released_code(oracle: Callable[[str], dict[str, Any]]) -> None:
    reference = oracle("duvae_iaf_freebits")
    z, log_q = (torch.from_numpy(reference["inputs"][n]) for n in ("z_T", "log_q_per_dim"))
    prior = StandardNormal(torch.zeros(z.shape[-1], dtype=torch.float64))
    # [B, S, D] there: samples are averaged before the batch.
    rates = (log_q - prior.log_prob_per_dimension(z)).mean(1)
    exact = {"rtol": reference["rtol"], "atol": 1e-10}
    for name, expected in reference["expected"]["kl_per_sample"].items():
        kind, floor = name.split("=")
        if floor == "0" or kind == "eval_lambda":
            assert_close(rates.sum(1), torch.from_numpy(expected), **exact)
        else:
            floored = free_bits(rates, float(floor), "batch_per_dimension")
            assert_close(floored.expand(len(expected)), torch.from_numpy(expected), **exact)


def model(prior: nn.Module | None = None) -> LatentVariableModel:
    event = (1, 2, 4)
    return LatentVariableModel(
        MLPEncoder(event, (H,)),
        InverseAutoregressivePosterior((H,), D, hidden=8),
        prior or StandardNormalPrior((D,)),
        MLPDecoder((D,), event, BernoulliLikelihood(event), (8,)),
    )


@pytest.mark.parametrize("variant", ["batch_per_dimension", "example_per_dimension"])
def test_the_bound_has_a_floor_under_every_dimension_of_a_flow(variant: Any) -> None:
    whole, batch = model(), Batch(torch.rand(B, 1, 2, 4).round())
    loss = ELBO(free_bits=FreeBits(0.3, variant), samples=4)(whole, batch, Progress())
    made = loss.inference
    rates = made.rate_per_dimension()
    assert rates is not None
    assert rates.shape == (B, D)
    assert_close(rates.sum(1), loss.terms["rate"])
    assert_close(made.log_q, made.q.log_prob(made.z), rtol=1e-4, atol=1e-4)
    assert_close(loss.total, loss.terms["distortion"].mean() + free_bits(rates, 0.3, variant))
    # Where every dimension lies below its floor the rate pulls no longer.
    high = ELBO(free_bits=FreeBits(1000.0, variant))(whole, batch, Progress())
    gradients = torch.autograd.grad(
        high.total - high.terms["distortion"].mean(), list(whole.parameters()), allow_unused=True, retain_graph=True
    )
    assert all(g is None or not bool(g.any()) for g in gradients)
    assert float(high.total.detach()) > 3000


def test_a_floor_per_dimension_needs_a_gaussian_prior() -> None:
    whole, batch = model(AutoregressivePrior((D,), 1, 4)), Batch(torch.rand(B, 1, 2, 4).round())
    with pytest.raises(ConfigError, match="the posterior is InverseAutoregressiveFlow, the prior NormalizingFlow"):
        ELBO(free_bits=FreeBits(0.3, "batch_per_dimension"))(whole, batch, Progress())
    total = ELBO(free_bits=FreeBits(100.0))(whole, batch, Progress()).total
    assert float(total.detach()) > 100
