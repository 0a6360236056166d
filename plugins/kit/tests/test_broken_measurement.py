"""The kit finds what is wrong with broken estimators, probes, samplers and data sources."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from uncollapse.config import DataConfig, EstimatorConfig, ProbeConfig, SamplerConfig
from uncollapse.errors import DataError
from uncollapse.model import LatentVariableModel
from uncollapse.protocols import Batch, DataSpec, Estimate
from uncollapse_kit import check_component

Failing = Callable[..., set[str]]
Batches = Callable[[], Iterable[Batch]]

# ----------------------------------------------------------------------------------------------------------- estimator


def mean_rate(model: LatentVariableModel, batches: Batches) -> dict[str, Estimate]:
    with torch.no_grad():
        rates = torch.cat([model(batch.x).rate() for batch in batches()])
    error = float(rates.std()) / len(rates) ** 0.5
    return {"rate": Estimate(float(rates.mean()), "nats", error, len(rates))}


def with_fields(**fields: Any) -> Callable[[LatentVariableModel, Batches], dict[str, Estimate]]:
    return lambda model, batches: {"rate": dataclasses.replace(mean_rate(model, batches)["rate"], **fields)}


def trains(model: LatentVariableModel, batches: Batches) -> dict[str, Estimate]:
    optimizer = torch.optim.SGD(model.encoder.parameters(), 0.1)
    for batch in batches():
        optimizer.zero_grad()
        model(batch.x).distortion.mean().backward()
        optimizer.step()
    return mean_rate(model, batches)


def leaves_gradients(model: LatentVariableModel, batches: Batches) -> dict[str, Estimate]:
    model(next(iter(batches())).x).rate().mean().backward()
    return mean_rate(model, batches)


def switches_mode(model: LatentVariableModel, batches: Batches) -> dict[str, Estimate]:
    return mean_rate(model.eval(), batches)


def per_rate(model: LatentVariableModel, batches: Batches) -> dict[str, Estimate]:
    """Divides by the rate, which is zero once the model has collapsed."""
    rate = torch.tensor(mean_rate(model, batches)["rate"].value)
    return {"ratio": Estimate(float(1 / rate), "ratio")}


def _counting() -> Callable[[LatentVariableModel, Batches], dict[str, Estimate]]:
    calls = iter(range(1000))
    return lambda model, batches: {"rate": Estimate(float(next(calls)), "nats")}


ESTIMATORS: dict[str, tuple[Any, set[str]]] = {
    "sound": (lambda: mean_rate, set()),
    "trains": (lambda: trains, {"estimator_leaves_model", "estimator_reproducible"}),
    "leaves gradients": (lambda: leaves_gradients, {"estimator_leaves_model"}),
    "switches mode": (lambda: switches_mode, {"estimator_leaves_model"}),
    "divides by zero": (lambda: per_rate, {"estimator_on_collapse"}),
    "counts": (_counting, {"estimator_reproducible"}),
}
RECORDS: dict[str, Any] = {
    "no unit": with_fields(unit=""),
    "tensor": with_fields(value=torch.ones(())),
    "NaN": with_fields(value=float("nan")),
    "negative error": with_fields(standard_error=-1.0),
    "no examples": with_fields(count=0),
    "NaN of a dimension": with_fields(per_dimension=(1.0, float("nan"))),
    "nothing": lambda model, batches: {},
}


@pytest.mark.parametrize(("make", "expected"), ESTIMATORS.values(), ids=ESTIMATORS)
def test_estimator(make: Any, expected: set[str], failing: Failing) -> None:
    assert failing(EstimatorConfig, lambda context: make()) == expected


@pytest.mark.parametrize("estimator", RECORDS.values(), ids=RECORDS)
def test_estimator_with_a_wrong_record(estimator: Any, failing: Failing) -> None:
    assert "estimator_records" in failing(EstimatorConfig, lambda context: estimator)


# --------------------------------------------------------------------------------------------------------------- probe


def nearest_mean(train: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor) -> Tensor:
    means = torch.stack([train[labels == k].mean(0) for k in labels.unique()])
    return (torch.cdist(test, means).argmin(1) == test_labels).float().mean()


def probe(score: Callable[..., Any]) -> Callable[..., dict[str, Estimate]]:
    return lambda *codes: {"accuracy": Estimate(float(score(*codes)), "accuracy", count=len(codes[2]))}


def _memorises(train: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor) -> float:
    return 1.0


def _standardises_in_place(train: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor) -> Tensor:
    return nearest_mean(train.sub_(1.0), labels, test.sub_(1.0), test_labels)


_CALLS = iter(range(1000))
PROBES: dict[str, tuple[Any, set[str]]] = {
    "sound": (probe(nearest_mean), set()),
    "percent": (probe(lambda *codes: 100 * nearest_mean(*codes)), {"probe_scores", "probe_noise_codes"}),
    "knows the answers": (probe(_memorises), {"probe_noise_codes"}),
    "learns nothing": (probe(lambda *codes: 0.25), {"probe_separable_codes"}),
    "changes the codes": (probe(_standardises_in_place), {"probe_reproducible"}),
    "counts calls": (probe(lambda *codes: nearest_mean(*codes) * 0.999 ** next(_CALLS)), {"probe_reproducible"}),
}


@pytest.mark.parametrize(("function", "expected"), PROBES.values(), ids=PROBES)
def test_probe(function: Any, expected: set[str], failing: Failing) -> None:
    assert failing(ProbeConfig, lambda context: function) == expected


# ------------------------------------------------------------------------------------------------------------- sampler


def ancestral(model: LatentVariableModel, count: int) -> Tensor:
    with torch.no_grad():
        return model.generate(model.p_z().sample((count,))).sample()


def _means(model: LatentVariableModel, count: int) -> Tensor:
    return model.generate(model.p_z().sample((count,))).mean


SAMPLERS: dict[str, tuple[Any, set[str]]] = {
    "sound": (ancestral, set()),
    "gradients": (_means, {"sampler_shape"}),
    "too many": (lambda model, count: ancestral(model, count + 1), {"sampler_shape"}),
    "switches mode": (lambda model, count: ancestral(model.eval(), count), {"sampler_leaves_model"}),
}


@pytest.mark.parametrize(("function", "expected"), SAMPLERS.values(), ids=SAMPLERS)
def test_sampler(function: Any, expected: set[str], failing: Failing) -> None:
    assert failing(SamplerConfig, lambda context: function) == expected


def test_sampler_that_always_draws_the_same(failing: Failing) -> None:
    same = lambda model, count: ancestral(model, 1).repeat_interleave(count, 0)  # noqa: E731
    assert failing(SamplerConfig, lambda context: same) == {"sampler_varies"}


# ---------------------------------------------------------------------------------------------------------------- data


class Split:
    """Sound by itself; ``fault`` breaks it."""

    def __init__(self, seed: int, size: int, fault: str) -> None:
        self.fault, self.seed = fault, seed
        self.spec = DataSpec((3,), "binary", classes=2)
        generator = torch.Generator().manual_seed(seed + size)
        self.x = torch.randint(0, 2, (size, 3), generator=generator).float()
        self.labels = torch.randint(0, 2, (size,), generator=generator)
        if fault == "grey":
            self.x *= 0.5
        if fault == "labels":
            self.labels += 1

    def __len__(self) -> int:
        return len(self.x)

    def batches(
        self, batch_size: int, *, epoch: int = 0, shuffle: bool = False, drop_last: bool = False, start: int = 0,
        rank: int = 0, world_size: int = 1, device: object = "cpu",
    ) -> Iterator[Batch]:  # fmt: skip
        size, fault = len(self), self.fault
        order = torch.arange(size)
        if shuffle:
            seed = self.seed if fault == "same order" else self.seed * 1000 + epoch
            own = None if fault == "global state" else torch.Generator().manual_seed(seed)
            order = torch.randperm(size, generator=own)
        chunks = list(order.split(batch_size))
        if (drop_last and len(chunks[-1]) < batch_size) or fault == "short epoch":
            chunks = chunks[:-1]
        for chunk in chunks[start + (1 if start and fault == "start" else 0) :]:
            share = chunk.chunk(world_size)[rank]
            if fault == "same share" and world_size > 1:
                share = chunk.chunk(world_size)[0]
            yield Batch(self.x[share], self.labels[share])


class Source:
    def __init__(self, seed: int, fault: str) -> None:
        self.train, self.validation, self.test = (Split(seed, n, fault) for n in (200, 61, 40))
        self.spec = self.train.spec
        if fault == "shape":
            self.spec = DataSpec((4,), "binary", classes=2)
        if fault == "missing":
            raise DataError("data.root: nothing is there")


FAULTS = {
    "none": set(),
    "grey": {"data_spec"},
    "labels": {"data_spec"},
    "shape": {"data_spec"},
    "global state": {"data_deterministic", "data_leaves_random_state", "data_start", "data_shares"},
    "same order": {"data_shuffles"},
    "short epoch": {"data_covers_split"},
    "start": {"data_start"},
    "same share": {"data_shares"},
}


@pytest.mark.parametrize(("fault", "expected"), FAULTS.items(), ids=FAULTS)
def test_data(fault: str, expected: set[str], failing: Failing) -> None:
    assert failing(DataConfig, lambda seed: Source(seed, fault)) == expected


def test_missing_data_are_said_to_be_missing(make_config: Any) -> None:
    report = check_component(make_config(DataConfig, lambda seed: Source(seed, "missing")))
    assert report.passed
    (skipped,) = [check for check in report.checks if check.outcome == "not applicable"]
    assert skipped.name == "data_spec"
    assert "nothing is there" in skipped.reason
