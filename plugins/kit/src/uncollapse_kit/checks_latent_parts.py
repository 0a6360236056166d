"""Checks of the parts that make latents: posteriors, moment transforms and priors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor
from torch.distributions import Distribution
from uncollapse.distributions import rsample_and_log_prob
from uncollapse.errors import UncollapseError
from uncollapse.protocols import Progress

from .case import COUNT, Case
from .density import expect_unit_mass, first_of
from .report import NotApplicable, expect
from .tensors import autocast, expect_close, expect_finite, expect_gradients, expect_shape, through_a_file

__all__ = ["MOMENT_TRANSFORM_CHECKS", "POSTERIOR_CHECKS", "PRIOR_CHECKS"]

SAMPLES = 3


# ----------------------------------------------------------------------------------------------------------- posterior


def posterior_shape(case: Case) -> None:
    """``[B, *H]`` to batch ``[B]``, event ``D``, with a reparameterized ``rsample``; with and without progress."""
    posterior: Any = case.module()
    latent = tuple(case.context.latent_shape)
    expect_shape("latent_shape of the posterior and of its config", posterior.latent_shape, latent)
    for progress in (None, Progress(), Progress(final=True)):
        q = posterior(case.setting.h(COUNT), progress)
        expect_shape("batch of q(z|x)", q.batch_shape, (COUNT,))
        expect_shape("event of q(z|x)", q.event_shape, latent)
        expect(q.has_rsample, "expected has_rsample = True: gradients reach the encoder through the samples")
        z = q.rsample((SAMPLES,))
        expect_shape("rsample((S,))", z.shape, (SAMPLES, COUNT, *latent))
        expect_shape("log_prob of samples", q.log_prob(z).shape, (SAMPLES, COUNT))


def posterior_gradients(case: Case) -> None:
    """Samples and their log density together move every parameter, and samples alone move the features."""
    posterior = case.module()
    h = case.setting.h(COUNT).requires_grad_()
    z, log_q = rsample_and_log_prob(posterior(h), (SAMPLES,))
    loss = (z * torch.randn_like(z)).sum() + (log_q * torch.randn_like(log_q)).sum()
    expect_gradients(posterior, loss)
    expect(z.requires_grad, "samples carry no gradient; rsample must be reparameterized")
    (gradient,) = torch.autograd.grad(z.square().sum(), [h], allow_unused=True)
    expect(gradient is not None and bool(gradient.any()), "no gradient reaches the features through rsample")


def posterior_density(case: Case) -> None:
    """The log density that comes with the samples is the density at the samples (float64)."""
    posterior = case.module().double()
    with torch.no_grad():
        q = posterior(case.setting.h(COUNT).double())
        z, log_q = rsample_and_log_prob(q, (SAMPLES,))
        expect_shape("log density of samples", log_q.shape, (SAMPLES, COUNT))
        expect_close("log density from rsample_and_log_prob and log_prob", log_q, q.log_prob(z), rtol=1e-5, atol=1e-4)


def posterior_unit_mass(case: Case) -> None:
    """With two latent dimensions the density integrates to one and is that of the samples."""
    values = case.config.model_dump(mode="json")
    if "latent_dim" not in values:
        raise NotApplicable("the config has no field 'latent_dim' that could be set to 2")
    try:
        config = type(case.config).model_validate({**values, "latent_dim": 2})
        small = replace(case, config=config)
        posterior = small.module(context=replace(case.context, latent_shape=(2,))).double().eval()
    except (ValidationError, UncollapseError) as error:
        raise NotApplicable(f"it cannot have two latent dimensions: {error}") from error
    for row in case.setting.h(2).double():
        expect_unit_mass(first_of(posterior(row[None])), "q(z|x)")


def posterior_batch_order(case: Case) -> None:
    """In evaluation an example's posterior depends on nothing else in the batch: not its order, not its size."""
    posterior, h, z = case.module().eval(), case.setting.h(COUNT), case.setting.z(COUNT)
    order = torch.randperm(COUNT)
    with torch.no_grad():
        log_q = posterior(h).log_prob(z)
        shuffled = posterior(h[order]).log_prob(z[order])
        expect_close("log q of the reordered batch", shuffled, log_q[order], rtol=1e-4, atol=1e-3)
        alone = posterior(h[:1]).log_prob(z[:1])
        expect_close("log q of one example alone", alone, log_q[:1], rtol=1e-4, atol=1e-3)


def posterior_finite(case: Case) -> None:
    """Samples, densities and gradients are finite in float32 and under bfloat16 autocast."""
    posterior = case.module()
    for half in (False, True):
        with autocast(half):
            z, log_q = rsample_and_log_prob(posterior(case.setting.h(COUNT)), (SAMPLES,))
        told = "bfloat16" if half else "float32"
        expect_finite(f"samples in {told}", z)
        expect_finite(f"log density in {told}", log_q)
        expect_gradients(posterior, (z * torch.randn_like(z)).sum() + (log_q * torch.randn_like(log_q)).sum())


def posterior_state_round_trip(case: Case) -> None:
    """A fresh posterior with the saved state gives the same densities."""
    posterior, other = case.module(seed=0), case.module(seed=1)
    h, z = case.setting.h(COUNT), case.setting.z(COUNT)
    posterior(h)
    other.load_state_dict(through_a_file(posterior.state_dict()))
    with torch.no_grad():
        found, expected = other.eval()(h).log_prob(z), posterior.eval()(h).log_prob(z)
    expect_close("log q after save and load", found, expected, rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------------------------------------------- moment transform


def _moments(case: Case, count: int = COUNT) -> tuple[Tensor, Tensor]:
    mean = 2 * case.setting.z(count, seed=5)
    return mean, case.setting.z(count, seed=6) - 0.5


def moments_shape(case: Case) -> None:
    """``(mean, logvar)`` keep their shapes and stay finite, in training and in evaluation, at any progress."""
    transform = case.module()
    mean, logvar = _moments(case)
    for training in (True, False):
        transform.train(training)
        for progress in (None, Progress(), Progress(step=10_000, steps_per_epoch=5), Progress(final=True)):
            new_mean, new_logvar = transform(mean, logvar, progress)
            for what, new in (("mean", new_mean), ("logvar", new_logvar)):
                expect_shape(what, new.shape, mean.shape)
                expect_finite(what, new)


def moments_gradients(case: Case) -> None:
    """Gradients pass to the moments that the result depends on, and to every parameter."""
    transform = case.module()
    mean, logvar = (t.requires_grad_() for t in _moments(case))
    outputs = torch.cat([t.flatten() for t in transform(mean, logvar, Progress())])
    loss = (outputs * torch.randn_like(outputs)).sum()
    expect_gradients(transform, loss)
    transform.eval()
    with torch.no_grad():
        here = torch.stack(transform(mean, logvar, None))
        moved = {
            "mean": torch.stack(transform(mean + 0.1, logvar, None)),
            "logvar": torch.stack(transform(mean, logvar + 0.1, None)),
        }
    depends = [name for name, there in moved.items() if not torch.equal(here, there)]
    expect("mean" in depends, "the result does not depend on the mean")
    expect(loss.requires_grad, f"no gradient reaches {' and '.join(depends)}")
    for name, leaf in (("mean", mean), ("logvar", logvar)):
        (gradient,) = torch.autograd.grad(loss, [leaf], allow_unused=True, retain_graph=True)
        if name in depends:
            expect(gradient is not None and bool(gradient.any()), f"no gradient reaches {name}")
            expect_finite(f"gradient of {name}", gradient)


def moments_batch_order(case: Case) -> None:
    """In evaluation an example's moments depend on nothing else in the batch, and on no chance."""
    transform = case.module()
    mean, logvar = _moments(case)
    for _ in range(3):
        transform(mean, logvar, Progress())
    transform.eval()
    order = torch.randperm(COUNT)
    with torch.no_grad():
        here = torch.stack(transform(mean, logvar, None))
        again = torch.stack(transform(mean, logvar, None))
        expect_close("moments at the second call", again, here, rtol=0, atol=0)
        shuffled = torch.stack(transform(mean[order], logvar[order], None))
        expect_close("moments of the reordered batch", shuffled, here[:, order])
        alone = torch.stack(transform(mean[:1], logvar[:1], None))
        expect_close("moments of one example alone", alone, here[:, :1])


def moments_state_round_trip(case: Case) -> None:
    """A fresh transform with the saved state, running statistics included, gives the same moments."""
    transform, other = case.module(seed=0), case.module(seed=1)
    mean, logvar = _moments(case)
    for _ in range(3):
        transform(mean, logvar, Progress())
    other.load_state_dict(through_a_file(transform.state_dict()))
    with torch.no_grad():
        found = torch.stack(other.eval()(mean, logvar, None))
        expect_close("moments after save and load", found, torch.stack(transform.eval()(mean, logvar, None)), rtol=0)


# --------------------------------------------------------------------------------------------------------------- prior


def prior_shape(case: Case) -> None:
    """Batch ``[]``, event ``D``; samples have the asked shape and a finite log_prob."""
    p: Distribution = case.module()()
    latent = case.context.latent_shape
    expect_shape("batch of p(z)", p.batch_shape, ())
    expect_shape("event of p(z)", p.event_shape, latent)
    z = p.sample((5,))
    expect_shape("sample((5,))", z.shape, (5, *latent))
    log_prob = p.log_prob(z)
    expect_shape("log_prob of 5 samples", log_prob.shape, (5,))
    expect_finite("log_prob of samples", log_prob)


def prior_broadcasts(case: Case) -> None:
    """``log_prob`` of ``[S, B, *D]`` is ``[S, B]``, each row as it is alone."""
    p: Distribution = case.module().eval()()
    z = case.setting.z(SAMPLES, COUNT)
    with torch.no_grad():
        together, apart = p.log_prob(z), torch.stack([p.log_prob(row) for row in z])
    expect_shape("log_prob of [S, B, *D]", together.shape, (SAMPLES, COUNT))
    expect_close("log_prob of all at once and of each row", together, apart, rtol=1e-4, atol=1e-4)


def prior_unit_mass(case: Case) -> None:
    """With two latent dimensions the density integrates to one and is that of the samples."""
    try:
        prior = case.module(context=replace(case.context, latent_shape=(2,)), dtype=torch.float64).eval()
    except UncollapseError as error:
        raise NotApplicable(f"it cannot have two latent dimensions: {error}") from error
    expect_unit_mass(prior(), "p(z)")


def prior_gradients(case: Case) -> None:
    """The log density moves every parameter, and the sample that it is taken at."""
    prior = case.module()
    z = case.setting.z(COUNT).requires_grad_()
    log_prob = prior().log_prob(z)
    loss = (log_prob * torch.randn_like(log_prob)).sum()
    (gradient,) = torch.autograd.grad(loss, [z], allow_unused=True, retain_graph=True)
    expect(gradient is not None and bool(gradient.any()), "no gradient reaches z")
    expect_gradients(prior, loss)


def prior_finite(case: Case) -> None:
    """Densities are finite in float32 and under bfloat16 autocast."""
    prior, z = case.module(), case.setting.z(COUNT)
    for half in (False, True):
        with autocast(half):
            log_prob = prior().log_prob(z)
        expect_finite("log_prob in " + ("bfloat16" if half else "float32"), log_prob)


def prior_state_round_trip(case: Case) -> None:
    """A fresh prior with the saved state gives the same densities."""
    prior, other, z = case.module(seed=0), case.module(seed=0), case.setting.z(COUNT)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn_like(parameter))
        other.load_state_dict(through_a_file(prior.state_dict()))
        expect_close("log p after save and load", other().log_prob(z), prior().log_prob(z), rtol=1e-5, atol=1e-5)


POSTERIOR_CHECKS = (
    posterior_shape, posterior_gradients, posterior_density, posterior_unit_mass, posterior_batch_order,
    posterior_finite, posterior_state_round_trip,
)  # fmt: skip
MOMENT_TRANSFORM_CHECKS = (moments_shape, moments_gradients, moments_batch_order, moments_state_round_trip)
PRIOR_CHECKS = (
    prior_shape, prior_broadcasts, prior_unit_mass, prior_gradients, prior_finite, prior_state_round_trip,
)  # fmt: skip
