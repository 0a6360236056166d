from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from training_toys import ToySource, toy_config
from uncollapse.distributions import DiagonalNormal
from uncollapse.pipeline import Pipeline
from uncollapse.protocols import Batch, Penalty, Progress
from uncollapse.training import Criterion
from uncollapse.training.companions import Companions, build_observers, detached


class MeanPenalty(nn.Module):
    """A learned weight on the squared batch mean of the codes."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, inference):
        squared = inference.z.mean((0, 1)).square().sum()
        return Penalty(self.scale * squared, {"squared": squared, "per_example": inference.z.sum((0, 2))})


class Discriminator(nn.Module):
    """Tells codes from draws of the prior."""

    adversary_lr = 0.01

    def __init__(self):
        super().__init__()
        self.adversary = nn.Linear(2, 1)
        self.seen = []

    def forward(self, inference):
        return Penalty(-nn.functional.logsigmoid(self.adversary(inference.z)).mean())

    def adversary_loss(self, inference):
        self.seen.append(inference)
        real = self.adversary(inference.p_z.sample(inference.z.shape[:2]))
        fake = self.adversary(inference.z)
        return -(nn.functional.logsigmoid(real).mean() + nn.functional.logsigmoid(-fake).mean())


@pytest.fixture
def built():
    return Pipeline(toy_config()).build()


@pytest.fixture
def batch():
    return next(ToySource().train.batches(8))


def test_total_is_objective_plus_penalties_and_terms_are_named(built, batch):
    criterion = Criterion(built.model, built.objective, {"my.mean": MeanPenalty(), "my.mean#2": MeanPenalty()})
    outcome = criterion(batch, Progress())
    terms = outcome.terms
    parts = terms["distortion"].mean() + terms["rate"].mean() + terms["my.mean"] + terms["my.mean#2"]
    torch.testing.assert_close(outcome.total, parts)
    torch.testing.assert_close(outcome.total, terms["loss"])
    assert terms["my.mean/per_example"].shape == (8,)
    torch.testing.assert_close(terms["my.mean"], 2 * terms["my.mean/squared"])
    assert not any(t.requires_grad for t in terms.values())
    assert outcome.weights == {"rate_weight": 1.0}


def test_parameters_of_regularizers_are_trained_and_saved(built, batch):
    penalty = MeanPenalty()
    criterion = Criterion(built.model, built.objective, {"my.mean": penalty})
    assert any(p is penalty.scale for p in criterion.trainable())
    criterion(batch, Progress()).total.backward()
    assert penalty.scale.grad is not None
    assert list(criterion.side_state()) == ["parts.my:mean.scale"]
    with torch.no_grad():
        penalty.scale.fill_(7)
    other = Criterion(built.model, built.objective, {"my.mean": MeanPenalty()})
    other.load_side_state(criterion.side_state())
    assert other.regularizers["my.mean"].scale.item() == 7


def companions_for(criterion, observers=None):
    from contextlib import nullcontext

    return Companions(criterion.adversaries(), observers or {}, nullcontext)


def test_an_opponent_takes_no_part_in_the_models_step(built, batch):
    opponent = Discriminator()
    criterion = Criterion(built.model, built.objective, {"aae": opponent})
    companions = companions_for(criterion)
    assert not any(p is q for p in criterion.trainable() for q in opponent.adversary.parameters())
    outcome = criterion(batch, Progress())
    outcome.total.backward()
    assert opponent.adversary.weight.grad is None, "the model's step computes no gradient for the opponent"
    gradients = {name: p.grad.clone() for name, p in built.model.named_parameters()}
    weight, encoder = opponent.adversary.weight.clone(), built.model.encoder.net[0].weight.clone()
    terms = companions.step(outcome.inference, batch, Progress())
    assert not torch.equal(opponent.adversary.weight, weight)
    assert torch.equal(built.model.encoder.net[0].weight, encoder)
    assert all(torch.equal(p.grad, gradients[name]) for name, p in built.model.named_parameters())
    assert terms["aae/adversary_loss"].shape == ()
    (seen,) = opponent.seen
    assert not seen.z.requires_grad
    assert not seen.q.mean.requires_grad
    assert outcome.inference.q.mean.requires_grad, "the original keeps its graph"


def test_the_opponent_learns(built, batch):
    opponent = Discriminator()
    companions = companions_for(Criterion(built.model, built.objective, {"aae": opponent}))
    inference = built.model(batch.x)
    shifted = replace(inference, z=inference.z + 4)
    losses = [companions.step(shifted, batch, Progress())["aae/adversary_loss"].item() for _ in range(150)]
    assert losses[-1] < 0.5 * losses[0]


def test_detaching_reaches_the_base_of_a_wrapped_posterior(built, batch):
    mean = torch.zeros(8, 2, requires_grad=True)
    wrapped = torch.distributions.Independent(torch.distributions.Normal(mean, torch.ones(8, 2)), 1)
    inference = replace(built.model(batch.x), q=wrapped)
    cut = detached(inference)
    assert not cut.q.mean.requires_grad
    assert not cut.base.mean.requires_grad
    assert isinstance(detached(built.model(batch.x)).base, DiagonalNormal)


class CountingObserver(nn.Module):
    """Learns the mean of the codes."""

    def __init__(self):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(2))
        self.batches = []

    def forward(self, inference, batch, progress):
        assert not inference.z.requires_grad
        self.batches.append((len(batch), progress.step))
        with torch.no_grad():
            self.mean.lerp_(inference.z.mean((0, 1)), 0.1)
        return {"distance": (inference.z - self.mean).square().mean()}


class CountingObserverConfig:
    type = "counting"

    def build(self, context):
        return CountingObserver()


def test_observers_see_every_step_and_live_in_the_state(built, batch):
    observers = build_observers(
        [CountingObserverConfig(), CountingObserverConfig()], built.context, torch.device("cpu")
    )
    assert list(observers) == ["counting", "counting#2"]
    companions = companions_for(Criterion(built.model, built.objective, {}), observers)
    terms = companions.step(built.model(batch.x), batch, Progress(step=3))
    assert set(terms) == {"counting/distance", "counting#2/distance"}
    assert observers["counting"].batches == [(8, 3)]
    state = companions.state_dict()
    torch.testing.assert_close(state["observers"]["counting"]["mean"], observers["counting"].mean.detach())


def test_a_batch_is_needed_by_no_one_without_companions(built):
    assert not companions_for(Criterion(built.model, built.objective, {}))
    assert len(Batch(torch.zeros(3, 1))) == 3


def test_an_opponent_may_bring_its_own_optimizer(built, batch):
    class Slow(Discriminator):
        def adversary_optimizer(self, parameters):
            return torch.optim.SGD(parameters, lr=self.adversary_lr)

    opponent = Slow()
    companions = companions_for(Criterion(built.model, built.objective, {"aae": opponent}))
    inference = built.model(batch.x)
    before = opponent.adversary.weight.clone()
    torch.manual_seed(1)
    companions.step(inference, batch, Progress())
    moved = opponent.adversary.weight.detach() - before
    with torch.no_grad():
        opponent.adversary.weight.copy_(before)
    opponent.adversary.weight.requires_grad_()
    torch.manual_seed(1)
    (slope,) = torch.autograd.grad(opponent.adversary_loss(detached(inference)), opponent.adversary.weight)
    torch.testing.assert_close(moved, -0.01 * slope, atol=1e-5, rtol=0.05)
    assert not torch.allclose(moved.abs(), torch.full_like(moved, 0.01), rtol=1e-2), "Adam's first step has this size"
