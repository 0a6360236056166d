"""Checks of what steers training: schedules, optimizers, learning rates and observers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from uncollapse.config import OptimizerConfig, ScheduleConfig
from uncollapse.protocols import Progress, Schedule

from .case import Case
from .report import NotApplicable, expect
from .tensors import expect_close, expect_finite, expect_untouched, snapshot, through_a_file

__all__ = ["LEARNING_RATE_CHECKS", "OBSERVER_CHECKS", "OPTIMIZER_CHECKS", "SCHEDULE_CHECKS"]


# ------------------------------------------------------------------------------------------------------------ schedule


def _steps(config: ScheduleConfig, steps_per_epoch: int) -> list[Progress]:
    last = math.ceil(config.epochs() * steps_per_epoch) + 3 * steps_per_epoch
    every = max(1, last // 500)
    return [Progress(step, steps_per_epoch) for step in range(0, last, every)]


def schedule_finite(case: Case) -> None:
    """A finite number at every step."""
    schedule: Schedule = case.build()
    for steps_per_epoch in (1, 7):
        for progress in _steps(cast(ScheduleConfig, case.config), steps_per_epoch):
            value = schedule(progress)
            fine = isinstance(value, int | float) and math.isfinite(value)
            expect(fine, f"expected a finite number at step {progress.step}, found {value!r}")


def schedule_length(case: Case) -> None:
    """``length()`` is what the config says, finite and not negative."""
    epochs = cast(ScheduleConfig, case.config).epochs()
    expect(math.isfinite(epochs) and epochs >= 0, f"epochs(): expected a finite number from 0 on, found {epochs!r}")
    found = cast(Schedule, case.build()).length()
    expect(found == epochs, f"expected length() == config.epochs() == {epochs:g}, found {found:g}")


def schedule_final_value(case: Case) -> None:
    """Once its epochs have passed the value stays, and it is the one that ``final`` asks for."""
    schedule: Schedule = case.build()
    epochs = cast(ScheduleConfig, case.config).epochs()
    final = schedule(Progress.at_end())
    for steps_per_epoch in (1, 7):
        first = math.ceil(epochs * steps_per_epoch)
        for step in (first, first + 1, first + steps_per_epoch, 10 * first + 100):
            found = schedule(Progress(step, steps_per_epoch))
            expect(found == final, f"expected the final value {final:g} from epoch {epochs:g} on, found {found:g}")
    early = schedule(Progress(0, 7, final=True))
    expect(early == final, f"expected the final value {final:g} wherever final=True, found {early:g} at step 0")


def schedule_stateless(case: Case) -> None:
    """The value follows from progress alone: asking twice, or backwards, changes nothing."""
    schedule: Schedule = case.build()
    steps = _steps(cast(ScheduleConfig, case.config), 7)
    forwards = [schedule(p) for p in steps]
    backwards = [schedule(p) for p in reversed(steps)][::-1]
    expect(forwards == backwards, "the value depends on what was asked before, not on progress alone")


# ----------------------------------------------------------------------------------------------------------- optimizer


def _train(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], steps: int) -> list[float]:
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = sum(((p - 1.0).square().sum() for p in parameters), torch.zeros(()))
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def _parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(4 + torch.randn(shape, generator=generator)) for shape in ((3,), (2, 2))]


def optimizer_descends(case: Case) -> None:
    """Steps reduce a quadratic, and the learning rate is the config's."""
    config, parameters = cast(OptimizerConfig, case.config), _parameters()
    optimizer = config.build(iter(parameters))
    kind = isinstance(optimizer, torch.optim.Optimizer)
    expect(kind, f"expected a torch.optim.Optimizer, found {type(optimizer).__name__}")
    rates = {group["lr"] for group in optimizer.param_groups}
    expect(rates == {config.lr}, f"expected the learning rate {config.lr:g}, found {rates}")
    losses = _train(optimizer, parameters, 200)
    finite = all(map(math.isfinite, losses))
    expect(finite and losses[-1] < losses[0], f"a quadratic went from {losses[0]:g} to {losses[-1]:g} in 200 steps")


def optimizer_state_round_trip(case: Case) -> None:
    """A fresh optimizer with the saved state takes the same next steps."""
    config, parameters = cast(OptimizerConfig, case.config), _parameters()
    optimizer = config.build(iter(parameters))
    _train(optimizer, parameters, 5)
    copies = [nn.Parameter(p.detach().clone()) for p in parameters]
    other = config.build(iter(copies))
    other.load_state_dict(through_a_file(optimizer.state_dict()))
    _train(optimizer, parameters, 5)
    _train(other, copies, 5)
    for found, expected in zip(copies, parameters, strict=True):
        expect_close("parameters after save, load and 5 steps", found.detach(), expected.detach(), rtol=0, atol=0)


# ------------------------------------------------------------------------------------------------------- learning rate


def learning_rate_factor(case: Case) -> None:
    """``step -> factor`` is finite, not negative, somewhere positive, and follows from the step alone."""
    factor = case.build()
    context = case.context
    steps = range(3 * context.steps_per_epoch * (context.epochs or 1))
    values = [factor(step) for step in steps]
    for step, value in zip(steps, values, strict=True):
        fine = isinstance(value, int | float) and math.isfinite(value) and value >= 0
        expect(fine, f"expected a finite factor from 0 on at step {step}, found {value!r}")
    expect(any(v > 0 for v in values), "the factor is 0 at every step: nothing is learned")
    backwards = [factor(step) for step in reversed(steps)][::-1]
    expect(values == backwards, "the factor depends on what was asked before, not on the step alone")


# ------------------------------------------------------------------------------------------------------------ observer


def _observe(case: Case, observer: Any) -> tuple[Mapping[str, Tensor], nn.Module, dict[str, Any]]:
    model = case.model()
    with torch.no_grad():
        inference = model(case.setting.x(6), samples=2)
    before = snapshot(model)
    return observer(inference, case.batch(), Progress()), model, before


def observer_reports(case: Case) -> None:
    """Named finite scalars without gradients."""
    observer = case.build()
    expect(isinstance(observer, nn.Module), f"expected an nn.Module, found {type(observer).__name__}")
    values, _, _ = _observe(case, observer)
    for name, value in values.items():
        fine = isinstance(value, Tensor) and value.dim() == 0 and not value.requires_grad
        expect(fine, f"{name!r}: expected a detached scalar tensor, found {value!r}")
        expect_finite(repr(name), value)


def observer_leaves_model(case: Case) -> None:
    """It changes nothing of the model."""
    _, model, before = _observe(case, case.build())
    expect_untouched(model, before)


def observer_learns(case: Case) -> None:
    """It steps its own parameters, if it has any."""
    observer = case.build()
    if not any(p.requires_grad for p in observer.parameters()):
        raise NotApplicable("it has no parameters")
    before = snapshot(observer)["state"]
    _observe(case, observer)
    same = all(torch.equal(v, before[k]) for k, v in observer.state_dict().items() if isinstance(v, Tensor))
    expect(not same, "expected its parameters to change when it is called, found the same as before")


def observer_state_round_trip(case: Case) -> None:
    """A fresh observer with the saved state reports the same."""
    observer, other = case.build(), case.build()
    _observe(case, observer)
    other.load_state_dict(through_a_file(observer.state_dict()))
    torch.manual_seed(1)
    found, _, _ = _observe(case, other)
    torch.manual_seed(1)
    expected, _, _ = _observe(case, observer)
    for name in expected:
        expect_close(f"{name!r} after save and load", found[name], expected[name])


SCHEDULE_CHECKS = (schedule_finite, schedule_length, schedule_final_value, schedule_stateless)
OPTIMIZER_CHECKS = (optimizer_descends, optimizer_state_round_trip)
LEARNING_RATE_CHECKS = (learning_rate_factor,)
OBSERVER_CHECKS = (observer_reports, observer_leaves_model, observer_learns, observer_state_round_trip)
