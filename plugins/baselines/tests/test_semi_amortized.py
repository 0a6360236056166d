"""SA-VAE: gradients of the whole unrolled objective against differences in float64, and what refining does."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from uncollapse.distributions import DiagonalNormal
from uncollapse.errors import ConfigError
from uncollapse.estimators import ActiveUnits, ELBOEstimator, ImportanceWeightedNLL
from uncollapse.objectives import ELBO
from uncollapse.protocols import Batch, Progress
from uncollapse_baselines import FiniteDifferences, Refined, Refinement, SemiAmortized
from uncollapse_baselines.iwae import IWAE
from uncollapse_baselines.semi_amortized import SemiAmortizedConfig
from uncollapse_latents.posteriors import InverseAutoregressivePosterior

NOW = Progress()
STEPS = Refinement(steps=4, lr=0.1, momentum=0.5)


def value(objective, model, x, progress=NOW):
    """The loss with the same noise at every call: a function of the parameters alone."""
    torch.manual_seed(0)
    return objective(model, Batch(x), progress)


def differences(objective, model, x, step=1e-5):
    """Central differences of the loss in every parameter."""
    found = {}
    for name, parameter in model.named_parameters():
        flat = parameter.data.view(-1)
        slopes = torch.zeros_like(flat)
        for i in range(len(flat)):
            before = float(flat[i])
            ends = []
            for sign in (1, -1):
                flat[i] = before + sign * step
                ends.append(value(objective, model, x).total.item())
            flat[i] = before
            slopes[i] = (ends[0] - ends[1]) / (2 * step)
        found[name] = slopes.view_as(parameter)
    return found


@pytest.mark.parametrize(
    "refinement",
    [
        STEPS,
        replace(STEPS, momentum=0.0),
        replace(STEPS, clip=0.2),
        replace(STEPS, scale="batch", lr=0.4, clip=0.05),
    ],
    ids=["momentum", "plain", "clip", "batch"],
)
def test_exact_gradients_are_those_of_the_unrolled_objective(tiny_model, pixels, refinement):
    model, x = tiny_model(), pixels(3)
    objective = SemiAmortized(refinement=refinement)
    gradients = torch.autograd.grad(value(objective, model, x).total, list(model.parameters()))
    expected = differences(objective, model, x)
    for (name, slopes), gradient in zip(expected.items(), gradients, strict=True):
        torch.testing.assert_close(gradient, slopes, rtol=1e-5, atol=1e-8, msg=lambda m, n=name: f"{n}: {m}")
    # The terms of second order are there to be seen: the gradient at posteriors that are constants is another.
    first_order = torch.autograd.grad(_with_constant_posteriors(refinement, model, x), list(model.decoder.parameters()))
    decoder = [g for (name, _), g in zip(expected.items(), gradients, strict=True) if name.startswith("decoder")]
    assert max((a - b).abs().max() for a, b in zip(decoder, first_order, strict=True)) > 1e-4


def _with_constant_posteriors(refinement, model, x):
    torch.manual_seed(0)
    steps = Refinement.__call__

    class Cut(Refinement):
        def __call__(self, loss_of, q, create_graph=False):
            return steps(self, loss_of, q, False)

    cut = Cut(**{name: getattr(refinement, name) for name in ("steps", "lr", "momentum", "clip", "scale")})
    return SemiAmortized(refinement=cut)(model, Batch(x), NOW).total


@pytest.mark.parametrize("scale", ["example", "batch"])
def test_finite_differences_come_close_to_the_exact_gradients(tiny_model, pixels, scale):
    model, x = tiny_model(), pixels(3)
    refinement = replace(STEPS, scale=scale, lr=0.1 if scale == "example" else 0.3)
    exact = value(SemiAmortized(refinement=refinement), model, x)
    found = value(SemiAmortized(refinement=refinement, second_order="finite_difference"), model, x)
    torch.testing.assert_close(found.total, exact.total)
    parameters = list(model.parameters())
    wanted = torch.autograd.grad(exact.total, parameters)
    for gradient, reference in zip(torch.autograd.grad(found.total, parameters), wanted, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-3, atol=1e-6)


def test_finite_differences_of_a_quadratic_are_exact():
    curvature = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    shift = torch.tensor([0.3, -0.2], dtype=torch.float64, requires_grad=True)

    def loss_of(q):
        m = q.mean - shift
        return (0.5 * (m @ curvature * m).sum(1) + 0.3 * q.logvar.square().sum(1)).mean()

    q = DiagonalNormal(torch.randn(1, 2).double(), torch.randn(1, 2).double())
    refinement = Refinement(steps=5, lr=0.2, momentum=0.3)
    start = DiagonalNormal(q.mean.clone().requires_grad_(), q.logvar.clone().requires_grad_())
    end = refinement(loss_of, start, create_graph=True)
    outer = end.mean.sin().sum() + end.logvar.square().sum()
    expected = torch.autograd.grad(outer, [start.mean, start.logvar, shift])
    steps = FiniteDifferences(refinement, loss_of, [shift])
    refined = steps.forward(q)
    torch.testing.assert_close(refined.mean, end.mean)
    outer = refined.mean.sin().sum() + refined.logvar.square().sum()
    first = torch.autograd.grad(outer, [refined.mean, refined.logvar])
    moments, terms = steps.backward(first)
    torch.testing.assert_close([*moments, *terms], list(expected), rtol=1e-6, atol=1e-8)


def test_steps_go_downhill_and_validation_takes_them_too(tiny_model, pixels):
    model, x = tiny_model(), pixels(20)
    objective = SemiAmortized(refinement=Refinement(steps=30, lr=0.05))
    plain = value(ELBO(samples=1), model, x)
    loss = value(objective, model, x)
    assert loss.terms["elbo"].mean() > loss.terms["initial_elbo"].mean() + 0.05
    torch.testing.assert_close(loss.terms["initial_elbo"], plain.terms["elbo"])
    assert set(loss.terms) == {"elbo", "rate", "distortion", "initial_elbo"}
    with torch.no_grad():
        at_end = value(objective, model, x, Progress.at_end())
    torch.testing.assert_close(at_end.total, loss.total)
    assert not at_end.total.requires_grad
    assert all(p.grad is None for p in model.parameters())


def test_an_example_s_steps_are_its_own(tiny_model, pixels):
    model, x = tiny_model(), pixels(6)
    losses = SemiAmortized(refinement=STEPS)
    still = _Still()
    together = losses.refinement(lambda q: still(model, x, q), model.infer(x))
    alone = losses.refinement(lambda q: still(model, x[:1], q), model.infer(x[:1]))
    torch.testing.assert_close(alone.mean, together.mean[:1])
    # The batch's mean loss with a rate B times as large gives the same steps.
    batch = replace(STEPS, scale="batch", lr=6 * STEPS.lr)
    torch.testing.assert_close(batch(lambda q: still(model, x, q), model.infer(x)).mean, together.mean)


class _Still:
    """The bound at the posterior's mean: no noise."""

    def __call__(self, model, x, q):
        rate = 0.5 * (q.mean.square() + q.logvar.exp() - q.logvar - 1).sum(1)
        return (rate - model.generate(q.mean).log_prob(x)).mean()


def test_clipping_bounds_a_step():
    refinement = Refinement(steps=1, lr=1.0, momentum=0.0, clip=0.5)
    q = DiagonalNormal(torch.randn(4, 3), torch.zeros(4, 3))
    moved = refinement(lambda p: (100 * p.mean.square()).sum(1).mean() + 0 * p.logvar.sum(), q)
    torch.testing.assert_close((moved.mean - q.mean).norm(dim=1), torch.full((4,), 0.5))
    whole = replace(refinement, scale="batch")(lambda p: (100 * p.mean.square()).sum(1).mean() + 0 * p.logvar.sum(), q)
    assert (whole.mean - q.mean).norm().item() == pytest.approx(0.5, rel=1e-5)


def test_any_objective_can_be_refined(tiny_model, pixels):
    model, x = tiny_model(), pixels(5)
    loss = value(SemiAmortized(IWAE(samples=3), STEPS), model, x)
    assert loss.inference.z.shape == (3, 5, 2)
    torch.autograd.grad(loss.total, list(model.parameters()))
    weighted = SemiAmortizedConfig(objective={"type": "elbo", "rate_weight": 0.1}, steps=3).build(None)
    assert value(weighted, model, x).weights == {"rate_weight": 0.1}


def test_what_cannot_be_refined_is_refused(tiny_model, pixels):
    flow = tiny_model(posterior=InverseAutoregressivePosterior((4,), 2, hidden=8))
    with pytest.raises(
        ConfigError, match="refines mean and log-variance, which InverseAutoregressiveFlow does not have"
    ):
        value(SemiAmortized(), flow, pixels(2))

    class EncodesOthers:
        def __call__(self, model, batch, progress):
            model.infer(batch.x.clone())
            return ELBO()(model, batch, progress)

    with pytest.raises(ConfigError, match="asked for that of other data; choose an objective that encodes the batch"):
        value(SemiAmortized(EncodesOthers()), tiny_model(), pixels(2))


def test_refined_posteriors_measure_better(tiny_model, pixels):
    model, x = tiny_model(), pixels(30)
    steps = Refinement(steps=30, lr=0.05)
    torch.manual_seed(0)
    plain = ELBOEstimator(samples=200)(model, lambda: [Batch(x)])["elbo"]
    estimators = [ELBOEstimator(samples=200), ActiveUnits(), ImportanceWeightedNLL(20)]
    model.train()
    found = Refined(estimators, steps)(model, lambda: [Batch(x[:20]), Batch(x[20:])])
    assert set(found) == {
        "refined_elbo", "refined_rate", "refined_distortion", "refined_active_units", "refined_nll",
        "refined_bits_per_dimension",
    }  # fmt: skip
    assert found["refined_elbo"].value > plain.value + 0.02
    assert found["refined_elbo"].note.endswith("posteriors refined by 30 steps")
    assert -found["refined_nll"].value > found["refined_elbo"].value - 0.02
    assert model.training
    assert all(p.grad is None for p in model.parameters())
