"""Checks of what measures a trained model: estimators, probes and samplers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from uncollapse.capabilities import supports
from uncollapse.model import LatentVariableModel
from uncollapse.protocols import Batch, Estimate, NeedsTrainingData

from .case import Case
from .contexts import as_batch, outside_support
from .report import expect
from .tensors import expect_shape, expect_untouched, snapshot

__all__ = ["ESTIMATOR_CHECKS", "PROBE_CHECKS", "SAMPLER_CHECKS"]

EXAMPLES = 48
BATCH = 16


def _expect_estimates(estimates: Any) -> Mapping[str, Estimate]:
    expect(isinstance(estimates, Mapping), f"expected a mapping of names to Estimate, found {type(estimates).__name__}")
    expect(len(estimates) > 0, "expected at least one named number, found none")
    for name, estimate in estimates.items():
        expect(isinstance(name, str) and bool(name), f"expected a name, found {name!r}")
        expect(isinstance(estimate, Estimate), f"{name}: expected an Estimate, found {type(estimate).__name__}")
        _expect_plain(f"{name}.value", estimate.value)
        expect(bool(estimate.unit), f"{name}.unit: expected 'nats', 'units', 'accuracy', ...; found nothing")
        error = estimate.standard_error
        if error is not None:
            _expect_plain(f"{name}.standard_error", error)
            expect(error >= 0, f"{name}.standard_error: expected a number from 0 on, found {error!r}")
        count = estimate.count
        fine = count is None or (isinstance(count, int) and count >= 1)
        expect(fine, f"{name}.count: expected None or a whole number from 1 on, found {count!r}")
        for number in estimate.per_dimension or ():
            _expect_plain(f"{name}.per_dimension", number)
    checked: Mapping[str, Estimate] = estimates
    return checked


def _expect_plain(what: str, value: Any) -> None:
    fine = isinstance(value, int | float) and math.isfinite(value)
    expect(fine, f"{what}: expected a finite Python number, found {value!r}")


# ----------------------------------------------------------------------------------------------------------- estimator


def _batches(case: Case) -> Callable[[], Iterable[Batch]]:
    whole = case.batch(EXAMPLES)

    def batches() -> Iterable[Batch]:
        for start in range(0, EXAMPLES, BATCH):
            part = slice(start, start + BATCH)
            x = as_batch(whole.x[part], case.setting.data)
            yield Batch(x, None if whole.labels is None else whole.labels[part])

    return batches


def _prepared(case: Case) -> Any:
    """Return a fresh estimator or sampler that has seen the training data, where it asks for them."""
    built = case.build()
    if supports(built, NeedsTrainingData):
        built.prepare(_batches(case))
    return built


def _collapsed(model: LatentVariableModel) -> LatentVariableModel:
    """Return the model with ``q(z|x) = p(z) = N(0, I)`` for every ``x``: total collapse."""
    with torch.no_grad():
        for parameter in model.posterior.parameters():
            parameter.zero_()
    return model


def estimator_records(case: Case) -> None:
    """Named finite numbers with unit, standard error and count."""
    _expect_estimates(_prepared(case)(case.model().eval(), _batches(case)))


def estimator_reproducible(case: Case) -> None:
    """The same seed gives the same numbers, also after other calls."""
    model, estimator, batches = case.model().eval(), _prepared(case), _batches(case)
    found = []
    for _ in range(2):
        torch.manual_seed(1)
        found.append(_expect_estimates(estimator(model, batches)))
    expect(list(found[0]) == list(found[1]), f"names differ: {list(found[0])} and {list(found[1])}")
    for name, first in found[0].items():
        expect(
            first == found[1][name], f"{name}: {first.value!r} and then {found[1][name].value!r} under the same seed"
        )


def estimator_leaves_model(case: Case) -> None:
    """Measuring changes neither the model's state nor its mode, and leaves no gradients behind."""
    model, estimator = case.model(), _prepared(case)
    for training in (True, False):
        before = snapshot(model.train(training))
        estimator(model, _batches(case))
        expect_untouched(model, before)
    expect(torch.is_grad_enabled(), "gradients are switched off for everybody afterwards")


def estimator_on_collapse(case: Case) -> None:
    """Numbers stay finite on a model that has collapsed altogether, which is what they are there to show."""
    _expect_estimates(_prepared(case)(_collapsed(case.model()).eval(), _batches(case)))


# --------------------------------------------------------------------------------------------------------------- probe

CLASSES = 4
CODE_SIZE = 6
TRAIN, TEST = 1200, 300


def _codes(count: int, separation: float, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    # Corners of a simplex, so that every class is as far from every other.
    centres = separation * torch.eye(CLASSES, CODE_SIZE)
    return centres[labels] + torch.randn((count, CODE_SIZE), generator=generator), labels


def _scores(case: Case, separation: float) -> Mapping[str, Estimate]:
    return _expect_estimates(case.build()(*_codes(TRAIN, separation, 1), *_codes(TEST, separation, 2)))


def probe_scores(case: Case) -> None:
    """Named numbers between 0 and 1."""
    for name, score in _scores(case, 1.0).items():
        expect(0 <= score.value <= 1, f"{name}: expected a score in 0..1, found {score.value:g}")


def probe_separable_codes(case: Case) -> None:
    """On codes whose classes lie 28 standard deviations apart every score is nearly perfect."""
    for name, score in _scores(case, 20.0).items():
        expect(score.value > 0.95, f"{name}: expected more than 0.95 on separable codes, found {score.value:.3f}")


def probe_noise_codes(case: Case) -> None:
    """On codes that know nothing of the labels every score is at the level of chance."""
    chance = 1 / CLASSES
    for name, score in _scores(case, 0.0).items():
        near = score.value < chance + 0.13
        expect(near, f"{name}: expected about {chance:g} on noise of {CLASSES} classes, found {score.value:.3f}")


def probe_reproducible(case: Case) -> None:
    """The same seed gives the same scores, and the codes are left as they were."""
    train, labels = _codes(TRAIN, 2.0, 1)
    test, test_labels = _codes(TEST, 2.0, 2)
    kept = train.clone(), test.clone()
    found = []
    for _ in range(2):
        torch.manual_seed(1)
        found.append({n: s.value for n, s in case.build()(train, labels, test, test_labels).items()})
    expect(found[0] == found[1], f"scores differ under the same seed: {found[0]} and {found[1]}")
    same = torch.equal(train, kept[0]) and torch.equal(test, kept[1])
    expect(same, "the codes that were passed in were changed")


# ------------------------------------------------------------------------------------------------------------- sampler


def sampler_shape(case: Case) -> None:
    """``[count, *X]`` inside the support, without gradients, for one sample and for several."""
    model, sampler = case.model().eval(), _prepared(case)
    for count in (1, 5):
        x: Tensor = sampler(model, count)
        expect_shape(f"{count} samples", x.shape, (count, *case.setting.data.event_shape))
        expect(not x.requires_grad, "samples carry a gradient")
        wrong = outside_support(x, case.setting.data)
        expect(not wrong, f"samples: {wrong}")


def sampler_varies(case: Case) -> None:
    """Samples differ from each other, and the same seed gives the same samples."""
    model, sampler = case.model().eval(), _prepared(case)
    torch.manual_seed(1)
    x = sampler(model, 5)
    torch.manual_seed(1)
    expect(torch.equal(x, sampler(model, 5)), "samples differ under the same seed")
    expect(bool((x != x[:1]).any()), "all samples are the same")


def sampler_leaves_model(case: Case) -> None:
    """Sampling changes neither the model's state nor its mode, and leaves no gradients behind."""
    model, sampler = case.model(), _prepared(case)
    for training in (True, False):
        before = snapshot(model.train(training))
        sampler(model, 2)
        expect_untouched(model, before)


ESTIMATOR_CHECKS = (estimator_records, estimator_reproducible, estimator_leaves_model, estimator_on_collapse)
PROBE_CHECKS = (probe_scores, probe_separable_codes, probe_noise_codes, probe_reproducible)
SAMPLER_CHECKS = (sampler_shape, sampler_varies, sampler_leaves_model)
