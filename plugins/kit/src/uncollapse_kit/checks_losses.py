"""Checks of what is minimised: objectives and regularizers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from uncollapse.capabilities import supports
from uncollapse.distributions import standard_normal
from uncollapse.inference import Inference
from uncollapse.protocols import Adversarial, Batch, Loss, Penalty, Progress

from .case import COUNT, Case
from .reference import EchoNormal, shares_of, take
from .report import NotApplicable, expect
from .tensors import (
    autocast,
    expect_close,
    expect_finite,
    expect_gradients,
    expect_shape,
    expect_untouched,
    mean_over_seeds,
    perturb,
    snapshot,
    through_a_file,
)

__all__ = ["OBJECTIVE_CHECKS", "REGULARIZER_CHECKS"]

VOCABULARY = ("elbo", "distortion", "rate")


def _expect_scalar(what: str, value: Any) -> None:
    expect(isinstance(value, Tensor), f"{what}: expected a tensor, found {type(value).__name__}")
    expect_shape(what, value.shape, ())
    expect_finite(what, value)


def _expect_term(name: str, value: Any, count: int) -> None:
    expect(isinstance(value, Tensor), f"term {name!r}: expected a tensor, found {type(value).__name__}")
    fits = tuple(value.shape) in ((), (count,))
    expect(fits, f"term {name!r}: expected shape ({count},) or (), found {tuple(value.shape)}")
    expect_finite(f"term {name!r}", value)


# ----------------------------------------------------------------------------------------------------------- objective


def objective_loss(case: Case) -> None:
    """A finite scalar, terms ``elbo``, ``distortion`` and ``rate`` per example, the inference, and plain weights."""
    for progress in (Progress(steps_per_epoch=5), Progress(step=7, steps_per_epoch=5), Progress.at_end()):
        loss = case.build()(case.model(), case.batch(), progress)
        expect(isinstance(loss, Loss), f"expected a Loss, found {type(loss).__name__}")
        _expect_scalar("total", loss.total)
        missing = [n for n in VOCABULARY if n not in loss.terms]
        expect(not missing, f"terms missing: {', '.join(missing)}; found {', '.join(loss.terms) or 'none'}")
        for name, value in loss.terms.items():
            _expect_term(name, value, COUNT)
        expect(isinstance(loss.inference, Inference), "loss.inference: expected the Inference that regularizers read")
        expect_shape("loss.inference.x", loss.inference.x.shape[1:], case.setting.data.event_shape)
        for name, weight in loss.weights.items():
            fine = isinstance(weight, int | float) and math.isfinite(weight)
            expect(fine, f"weights[{name!r}]: expected a finite number, found {weight!r}")


def objective_vocabulary(case: Case) -> None:
    """``elbo = -(distortion + rate)``, in nats per example, summed over the event."""
    loss: Loss = case.build()(case.model(), case.batch(), Progress())
    terms = {n: loss.terms[n].detach().mean() for n in VOCABULARY}
    expect_close("elbo and -(distortion + rate)", terms["elbo"], -(terms["distortion"] + terms["rate"]), atol=1e-3)
    if len(loss.inference.x) == COUNT:
        own = loss.inference.distortion.detach().mean()
        expect_close("distortion and the inference's own, summed over the event", terms["distortion"], own, atol=1e-3)


def objective_gradients(case: Case) -> None:
    """The loss moves every parameter of encoder, posterior and decoder, and the objective's own."""
    model, objective = case.model(), case.build()
    loss: Loss = objective(model, case.batch(), Progress(step=3, steps_per_epoch=5))
    for part in ("encoder", "posterior", "decoder"):
        expect_gradients(getattr(model, part), loss.total)
    if isinstance(objective, nn.Module):
        expect_gradients(objective, loss.total)


def objective_batch_order(case: Case) -> None:
    """The order of the examples does not matter, and terms follow their examples."""
    model, objective, batch = case.model(echo=True), case.build(), case.batch()
    order = torch.randperm(COUNT)
    shuffled = Batch(batch.x[order], None if batch.labels is None else batch.labels[order])
    with torch.no_grad():
        here = mean_over_seeds(lambda: objective(model, batch, Progress()).total)
        there = mean_over_seeds(lambda: objective(model, shuffled, Progress()).total)
        expect(there.agrees(here), f"total of the reordered batch: expected {here}, found {there}")
        if here.standard_error == 0:
            terms, others = (objective(model, b, Progress()).terms for b in (batch, shuffled))
            for name in terms:
                expected = terms[name][order] if terms[name].dim() else terms[name]
                expect_close(f"term {name!r} of the reordered batch", others[name], expected, rtol=1e-3, atol=1e-3)


def objective_mean_over_batch(case: Case) -> None:
    """The total is a mean over examples: a batch laid beside itself costs about what it cost before."""
    model, objective, batch = case.model(echo=True), case.build(), case.batch()
    double = Batch(torch.cat([batch.x] * 2), None if batch.labels is None else torch.cat([batch.labels] * 2))
    with torch.no_grad():
        once = mean_over_seeds(lambda: objective(model, batch, Progress()).total)
        twice = mean_over_seeds(lambda: objective(model, double, Progress()).total)
    near = abs(twice.mean - once.mean) <= 0.25 * abs(once.mean) + 5 * (once.standard_error + twice.standard_error)
    expect(near, f"total of the batch laid beside itself: expected about {once}, found {twice}: is it a sum?")


def objective_leaves_model(case: Case) -> None:
    """Computing a loss changes neither the model's state nor its mode, and leaves no gradients behind."""
    model, objective = case.model(), case.build()
    for training in (True, False):
        before = snapshot(model.train(training))
        objective(model, case.batch(), Progress())
        expect_untouched(model, before)


def objective_bfloat16(case: Case) -> None:
    """The loss is finite under bfloat16 autocast, and so are its gradients."""
    model, objective = case.model(), case.build()
    with autocast(True):
        loss: Loss = objective(model, case.batch(), Progress())
    _expect_scalar("total", loss.total)
    gradients = torch.autograd.grad(loss.total, list(model.parameters()), allow_unused=True)
    for gradient in gradients:
        if gradient is not None:
            expect_finite("gradient", gradient)


# --------------------------------------------------------------------------------------------------------- regularizer


def _regularizer(case: Case, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    regularizer = case.build()
    return perturb(regularizer) if isinstance(regularizer, nn.Module) else regularizer


def _at_end(inference: Inference) -> Inference:
    return replace(inference, progress=Progress.at_end())


def regularizer_penalty(case: Case) -> None:
    """A finite scalar, and terms that are scalars or per example; at the first step and at the end."""
    model, regularizer = case.model(), _regularizer(case)
    for inference in (case.inference(model), _at_end(case.inference(model))):
        penalty = regularizer(inference)
        expect(isinstance(penalty, Penalty), f"expected a Penalty, found {type(penalty).__name__}")
        _expect_scalar("total", penalty.total)
        for name, value in penalty.terms.items():
            _expect_term(name, value, COUNT)


def regularizer_gradients(case: Case) -> None:
    """The penalty moves the posterior (its moments or its samples), and the regularizer's own parameters."""
    model, regularizer = case.model(), _regularizer(case)
    inference = _at_end(case.inference(model))
    total = regularizer(inference).total
    expect(total.requires_grad, "the total carries no gradient")
    leaves = [inference.q.mean, inference.q.logvar]  # type: ignore[attr-defined]
    gradients = torch.autograd.grad(total, leaves, allow_unused=True, retain_graph=True)
    reached = [g for g in gradients if g is not None and bool(g.any())]
    expect(bool(reached), "no gradient reaches the posterior's mean or log-variance: nothing is regularized")
    for gradient in reached:
        expect_finite("gradient of the posterior's moments", gradient)
    if isinstance(regularizer, nn.Module):
        opponent = list(regularizer.adversary.parameters()) if supports(regularizer, Adversarial) else []
        expect_gradients(regularizer, total, ignored=opponent)


def regularizer_batch_order(case: Case) -> None:
    """The order of the examples does not matter."""
    model, regularizer = case.model(), _regularizer(case)
    whole = _at_end(case.inference(model))
    shuffled = replace(take(model, whole, torch.randperm(COUNT)), whole=None)
    here = mean_over_seeds(lambda: regularizer(whole).total)
    there = mean_over_seeds(lambda: regularizer(shuffled).total)
    expect(there.agrees(here), f"total of the reordered batch: expected {here}, found {there}")


def regularizer_data_parallel(case: Case) -> None:
    """Two processes that hold half of the batch each compute, on average, what one computes; so do gradients.

    Shares see the global batch through ``gathered()`` only. A penalty that couples examples through it is the same on
    every share; one that treats examples singly differs, and its mean is that of the batch. Coupling examples of the
    local share is what this finds.
    """
    model, regularizer = case.model(), _regularizer(case)
    whole = _at_end(case.inference(model))
    shares = shares_of(model, whole)

    def of_shares() -> Tensor:
        totals = []
        state = torch.random.get_rng_state()
        for share in shares:
            torch.random.set_rng_state(state)
            totals.append(regularizer(share).total)
        return torch.stack(totals).mean()

    one = mean_over_seeds(lambda: regularizer(whole).total)
    two = mean_over_seeds(of_shares)
    expect(two.agrees(one), f"mean of two processes: expected {one}, as one computes, found {two}; use gathered()")
    if one.standard_error or not regularizer(whole).total.requires_grad:
        return
    leaves = [whole.q.mean, whole.q.logvar]  # type: ignore[attr-defined]
    torch.manual_seed(0)
    expected = torch.autograd.grad(regularizer(whole).total, leaves, allow_unused=True, retain_graph=True)
    torch.manual_seed(0)
    found = torch.autograd.grad(of_shares(), leaves, allow_unused=True)
    for name, e, f in zip(("mean", "logvar"), expected, found, strict=True):
        nothing = torch.zeros(())
        expect_close(
            f"gradient of {name}, two processes and one",
            nothing if f is None else f,
            (nothing if f is None else torch.zeros_like(f)) if e is None else e,
            rtol=1e-3,
            atol=1e-5,
        )


def regularizer_spatial_latents(case: Case) -> None:
    """Latents ``[C, H, W]`` are penalised as the same numbers in one row."""
    if len(case.context.latent_shape) == 1:
        raise NotApplicable("the setting's latents are flat")
    regularizer = _regularizer(case)
    if isinstance(regularizer, nn.Module) and any(True for _ in regularizer.parameters()):
        raise NotApplicable("it has parameters of its own, which depend on the shape")
    spatial = _at_end(case.inference(case.model()))
    size = case.context.latent_size
    mean, logvar = (t.detach().flatten(1) for t in (spatial.q.mean, spatial.q.logvar))  # type: ignore[attr-defined]
    flat = replace(spatial, q=EchoNormal(mean, logvar), z=spatial.z.flatten(2), p_z=standard_normal((size,)))
    row = replace(case, setting=replace(case.setting, context=replace(case.context, latent_shape=(size,))))
    flattened = _regularizer(row)
    here = mean_over_seeds(lambda: regularizer(spatial).total)
    there = mean_over_seeds(lambda: flattened(flat).total)
    expect(here.agrees(there), f"total with latents in one row: {there}; in their shape: {here}")


def regularizer_bfloat16(case: Case) -> None:
    """The penalty is finite under bfloat16 autocast."""
    model, regularizer = case.model(), _regularizer(case)
    with autocast(True):
        total = regularizer(_at_end(case.inference(model))).total
    _expect_scalar("total", total)


def regularizer_adversary(case: Case) -> None:
    """An opponent's loss moves the opponent and needs nothing of the model."""
    regularizer = _regularizer(case)
    if not supports(regularizer, Adversarial):
        raise NotApplicable("it has no adversary")
    model = case.model()
    inference = case.inference(model)
    mean, logvar = inference.q.mean.detach(), inference.q.logvar.detach()  # type: ignore[attr-defined]
    q = EchoNormal(mean, logvar, mean.dim() - 1)
    loss = regularizer.adversary_loss(replace(inference, q=q, z=inference.z.detach()))
    _expect_scalar("adversary_loss", loss)
    expect(regularizer.adversary_lr > 0, f"adversary_lr: expected a positive rate, found {regularizer.adversary_lr!r}")
    expect_gradients(regularizer.adversary, loss)


def regularizer_state_round_trip(case: Case) -> None:
    """A fresh regularizer with the saved state gives the same penalty."""
    regularizer, other = _regularizer(case, 0), _regularizer(case, 1)
    if not isinstance(regularizer, nn.Module):
        raise NotApplicable("it is not a module and keeps no state")
    inference = _at_end(case.inference(case.model()))
    other.load_state_dict(through_a_file(regularizer.state_dict()))
    here, there = (mean_over_seeds(lambda r=r: r(inference).total) for r in (regularizer, other))  # type: ignore[misc]
    expect(there.agrees(here), f"total after save and load: expected {here}, found {there}")


OBJECTIVE_CHECKS = (
    objective_loss, objective_vocabulary, objective_gradients, objective_batch_order, objective_mean_over_batch,
    objective_leaves_model, objective_bfloat16,
)  # fmt: skip
REGULARIZER_CHECKS = (
    regularizer_penalty, regularizer_gradients, regularizer_batch_order, regularizer_data_parallel,
    regularizer_spatial_latents, regularizer_bfloat16, regularizer_adversary, regularizer_state_round_trip,
)  # fmt: skip
