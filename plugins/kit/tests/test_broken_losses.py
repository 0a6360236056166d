"""The kit finds what is wrong with broken objectives, regularizers, schedules, optimizers and observers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from uncollapse.config import (
    BuildContext,
    LearningRateConfig,
    ObjectiveConfig,
    ObserverConfig,
    OptimizerConfig,
    RegularizerConfig,
    ScheduleConfig,
)
from uncollapse.inference import Inference
from uncollapse.model import LatentVariableModel
from uncollapse.objectives import ELBO
from uncollapse.protocols import Batch, Loss, Penalty, Progress

Failing = Callable[..., set[str]]

# ----------------------------------------------------------------------------------------------------------- objective

Change = Callable[[Loss], Loss]


class Changed:
    """The ELBO with something changed afterwards."""

    def __init__(self, change: Change) -> None:
        self.change = change
        self.elbo = ELBO()

    def __call__(self, model: LatentVariableModel, batch: Batch, progress: Progress) -> Loss:
        return self.change(self.elbo(model, batch, progress))


def changed(**fields: Callable[[Loss], Any]) -> Callable[[BuildContext], Changed]:
    return lambda context: Changed(lambda loss: dataclasses.replace(loss, **{k: f(loss) for k, f in fields.items()}))


def _first_counts_twice(loss: Loss) -> Tensor:
    return loss.total + (loss.terms["distortion"] * torch.arange(len(loss.terms["distortion"]))).mean()


def _without(loss: Loss, name: str) -> dict[str, Tensor]:
    return {k: v for k, v in loss.terms.items() if k != name}


class SwitchesToEvaluation:
    def __call__(self, model: LatentVariableModel, batch: Batch, progress: Progress) -> Loss:
        return ELBO()(model.eval(), batch, progress)


class FrozenEncoder:
    def __call__(self, model: LatentVariableModel, batch: Batch, progress: Progress) -> Loss:
        loss = ELBO()(model, batch, progress)
        decoded = -model.generate(loss.inference.z.detach()).log_prob(batch.x)
        return dataclasses.replace(loss, total=decoded.mean())


PIXELS = 64  # of the kit's binary images

Build = Callable[[BuildContext], Any]
OBJECTIVES: dict[str, tuple[Build, set[str]]] = {
    "sound": (changed(), set()),
    "sum over batch": (changed(total=lambda a: a.total * len(a.inference.x)), {"objective_mean_over_batch"}),
    "positive elbo": (changed(terms=lambda a: {**a.terms, "elbo": -a.terms["elbo"]}), {"objective_vocabulary"}),
    "distortion per pixel": (
        changed(terms=lambda a: {**a.terms, "distortion": a.terms["distortion"] / PIXELS}),
        {"objective_vocabulary"},
    ),
    "a NaN weight": (changed(weights=lambda a: {"rate_weight": float("nan")}), {"objective_loss"}),
    "mode changed": (lambda context: SwitchesToEvaluation(), {"objective_leaves_model"}),
    "frozen encoder": (lambda context: FrozenEncoder(), {"objective_gradients"}),
    "terms in another order": (
        changed(terms=lambda a: {k: v * torch.arange(1, len(v) + 1) for k, v in a.terms.items()}),
        {"objective_batch_order", "objective_vocabulary"},
    ),
}
SEVERAL_FAULTS: dict[str, tuple[Build, str]] = {
    "no rate": (changed(terms=lambda a: _without(a, "rate")), "objective_loss"),
    "not a scalar": (changed(total=lambda a: a.terms["distortion"]), "objective_loss"),
    "order counts": (changed(total=_first_counts_twice), "objective_batch_order"),
}


@pytest.mark.parametrize(("build", "expected"), OBJECTIVES.values(), ids=OBJECTIVES)
def test_objective(build: Build, expected: set[str], failing: Failing) -> None:
    assert failing(ObjectiveConfig, build) == expected


@pytest.mark.parametrize(("build", "check"), SEVERAL_FAULTS.values(), ids=SEVERAL_FAULTS)
def test_objective_with_several_faults(build: Build, check: str, failing: Failing) -> None:
    assert check in failing(ObjectiveConfig, build)


# --------------------------------------------------------------------------------------------------------- regularizer


def rate(inference: Inference) -> Tensor:
    return 0.5 * (inference.q.mean.square() + inference.q.logvar.exp() - inference.q.logvar - 1).flatten(1).sum(1)


def spread_of_gathered(inference: Inference) -> Tensor:
    return inference.gathered().base.mean.flatten(1).var(0).sum()


def spread_with_own_gradient_only(inference: Inference) -> Tensor:
    """Gathers without gradients and puts its own examples back: the number is right, the gradient is not."""
    own, whole = inference.q.mean.flatten(1), inference.gathered().base.mean.detach().flatten(1)
    rows = (whole[:, None] == own[None]).all(-1).float().argmax(0)
    return whole.index_copy(0, rows, own).var(0).sum()


REGULARIZERS: dict[str, tuple[Callable[[Inference], Tensor], set[str]]] = {
    "sound, single examples": (lambda i: rate(i).mean(), set()),
    "sound, pairs": (spread_of_gathered, set()),
    "sound, with noise": (lambda i: (i.gathered().z.mean() - torch.randn(())).square(), set()),
    "first example counts": (lambda i: rate(i)[0], {"regularizer_batch_order", "regularizer_data_parallel"}),
    "local pairs": (lambda i: i.q.mean.flatten(1).var(0).sum(), {"regularizer_data_parallel"}),
    "sum over batch": (lambda i: rate(i).sum(), {"regularizer_data_parallel"}),
    "gradient of own share": (spread_with_own_gradient_only, {"regularizer_data_parallel"}),
    "detached": (lambda i: rate(i).mean().detach(), {"regularizer_gradients"}),
    "flat latents only": (lambda i: i.q.mean.square().sum(1).mean(), {"regularizer_spatial_latents"}),
}


@pytest.mark.parametrize(("function", "expected"), REGULARIZERS.values(), ids=REGULARIZERS)
def test_regularizer(function: Callable[[Inference], Tensor], expected: set[str], failing: Failing) -> None:
    assert failing(RegularizerConfig, lambda context: lambda inference: Penalty(function(inference))) == expected


def test_regularizer_that_is_not_finite(failing: Failing) -> None:
    build = lambda context: lambda i: Penalty((i.q.mean - i.q.mean).flatten(1).sum(1).std() / 0)  # noqa: E731
    assert "regularizer_penalty" in failing(RegularizerConfig, build)


class Opponent(nn.Module):
    """A regularizer with an adversary; ``detached`` breaks the adversary's loss."""

    adversary_lr = 1e-3

    def __init__(self, context: BuildContext, detached: bool) -> None:
        super().__init__()
        self.adversary = nn.Linear(context.latent_size, 1)
        self.detached = detached

    def forward(self, inference: Inference) -> Penalty:
        return Penalty(self.adversary(inference.gathered().z.flatten(2)).mean())

    def adversary_loss(self, inference: Inference) -> Tensor:
        loss = -self.adversary(inference.gathered().z.flatten(2)).mean()
        return loss.detach() if self.detached else loss


@pytest.mark.parametrize(("detached", "expected"), [(False, set()), (True, {"regularizer_adversary"})])
def test_regularizer_with_adversary(detached: bool, expected: set[str], failing: Failing) -> None:
    assert failing(RegularizerConfig, lambda context: Opponent(context, detached)) == expected


# ------------------------------------------------------------------------------------------------------------ schedule


class Schedule:
    def __init__(self, value: Callable[[Progress], float], length: float = 4.0) -> None:
        self.value, self._length = value, length

    def __call__(self, progress: Progress) -> float:
        return self.value(progress)

    def length(self) -> float:
        return self._length


def _rises(progress: Progress) -> float:
    return 1.0 if progress.final else min(1.0, progress.step / (4 * progress.steps_per_epoch))


def _counts() -> Callable[[Progress], float]:
    calls = iter(range(1_000_000))
    return lambda progress: 1.0 if progress.final or _rises(progress) == 1 else min(1.0, next(calls) / 1000)


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda context: Schedule(_rises), set()),
        (lambda context: Schedule(lambda p: 1.0 if p.final else p.step / 100), {"schedule_final_value"}),
        (lambda context: Schedule(lambda p: min(1.0, p.step / (4 * p.steps_per_epoch))), {"schedule_final_value"}),
        (lambda context: Schedule(_rises, length=3.0), {"schedule_length"}),
        (lambda context: Schedule(_counts()), {"schedule_stateless"}),
        (
            lambda context: Schedule(lambda p: float("inf") if p.step == 2 and not p.final else 1.0),
            {"schedule_finite"},
        ),
    ],
    ids=["sound", "never ends", "ignores final", "wrong length", "counts calls", "infinite"],
)
def test_schedule(build: Any, expected: set[str], failing: Failing) -> None:
    assert failing(ScheduleConfig, build, epochs=lambda self: 4.0) == expected


# -------------------------------------------------------------------------------------------- optimizer, learning rate


class Momentum(torch.optim.Optimizer):
    """Keeps its velocity in the state, beside it (``forgets``), or climbs."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, *, forgets: bool = False, sign: int = -1) -> None:
        super().__init__(parameters, {"lr": lr})
        self.forgets, self.sign = forgets, sign
        self.beside: dict[int, Tensor] = {}

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for i, p in enumerate(group["params"]):
                last = self.beside.get(i) if self.forgets else self.state[p].get("velocity")
                velocity = p.grad.clone() if last is None else 0.9 * last + p.grad
                if self.forgets:
                    self.beside[i] = velocity
                else:
                    self.state[p]["velocity"] = velocity
                p.add_(self.sign * group["lr"] * velocity)


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda ps: Momentum(ps, 0.01), set()),
        (lambda ps: Momentum(ps, 0.01, forgets=True), {"optimizer_state_round_trip"}),
        (lambda ps: Momentum(ps, 0.01, sign=1), {"optimizer_descends"}),
        (lambda ps: Momentum(ps, 0.02), {"optimizer_descends"}),
    ],
    ids=["sound", "state is lost", "climbs", "other rate"],
)
def test_optimizer(build: Any, expected: set[str], failing: Failing) -> None:
    assert failing(OptimizerConfig, build, lr=0.01) == expected


@pytest.mark.parametrize(
    ("factor", "expected"),
    [
        (lambda step: 0.9**step, set()),
        (lambda step: 1 - step / 50, {"learning_rate_factor"}),
        (lambda step: 0.0, {"learning_rate_factor"}),
        (lambda step: float("inf"), {"learning_rate_factor"}),
        (lambda step: 1 / (3 - step), {"fits_a_setting"}),
    ],
    ids=["sound", "negative", "zero", "infinite", "raises"],
)
def test_learning_rate(factor: Callable[[int], float], expected: set[str], failing: Failing) -> None:
    assert failing(LearningRateConfig, lambda context: factor) == expected


# ------------------------------------------------------------------------------------------------------------ observer


class Watcher(nn.Module):
    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, inference: Inference, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        with torch.enable_grad():
            loss = (self.weight * inference.z.mean() - 2).square()
            if self.mode != "idle":
                (gradient,) = torch.autograd.grad(loss, [self.weight], retain_graph=True)
                self.weight.data.sub_(0.1 * gradient)
        return {"loss": loss if self.mode == "attached" else loss.detach()}


@pytest.mark.parametrize(
    ("mode", "expected"), [("sound", set()), ("idle", {"observer_learns"}), ("attached", {"observer_reports"})]
)
def test_observer(mode: str, expected: set[str], failing: Failing) -> None:
    assert failing(ObserverConfig, lambda context: Watcher(mode)) == expected
