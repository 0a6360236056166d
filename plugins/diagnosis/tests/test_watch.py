"""The watcher of a training, as a callback and as an observer, and what a record says afterwards."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from uncollapse import Pipeline
from uncollapse.errors import ConfigError
from uncollapse.training import Run
from uncollapse_diagnosis import CollapseWarning, CollapseWatch, read_history


def told(watch: CollapseWatch, rates: list[float], **weights: float) -> list[str]:
    return [m for step, rate in enumerate(rates, 1) if (m := watch(step, rate, **weights)) is not None]


def watching(**options: Any) -> CollapseWatch:
    return CollapseWatch(1.0, **{"window": 2, "grace": 6, "warn": lambda message: None, **options})


def test_warns_once_when_the_rate_falls() -> None:
    messages = told(watching(), [3.0, 2.0, 0.9, 0.5, 0.1, 0.1, 3.0, 3.0, 0.1, 0.1], rate_weight=0.25)
    assert messages == [
        "step 4: the rate fell to 0.70 nats, below 1.00, under rate_weight 0.25: the code has collapsed"
    ]


def test_warns_once_when_the_rate_never_rises() -> None:
    messages = told(watching(), [0.1] * 12)
    assert messages == ["step 6: the rate is 0.10 nats and has never been above 1.00: the code is not used"]


def test_is_silent_while_all_is_well_or_too_early() -> None:
    assert told(watching(), [2.0] * 20) == []
    assert told(watching(), [0.1, 0.1, 0.1, 0.1, 2.0, 2.0, 2.0, 2.0]) == []


def test_reads_tensors_and_warns_by_the_usual_way() -> None:
    watch = CollapseWatch.for_data(examples=60_000, classes=10, window=1, grace=0)
    assert watch.threshold == pytest.approx(0.5 * math.log(10))
    with pytest.warns(CollapseWarning, match="step 1: the rate is 0.50 nats"):
        watch(1, torch.tensor([0.25, 0.75], requires_grad=True))
    assert CollapseWatch.for_data(examples=60_000).threshold == pytest.approx(0.1 * math.log(60_000))
    with pytest.raises(ConfigError, match="expected threshold > 0"):
        CollapseWatch(0.0)


def test_goes_on_where_it_stopped() -> None:
    rates = [3.0, 3.0, 3.0, 0.1, 0.1, 0.1, 0.1, 0.1]
    first, second = watching(), watching()
    one = told(first, rates[:5])
    second.load_state_dict(first.state_dict())
    rest = [m for step, rate in enumerate(rates[5:], 6) if (m := second(step, rate)) is not None]
    assert one + rest == told(watching(), rates)


PIPELINE: dict[str, Any] = {
    "name": "watched",
    "data": {"type": "digits", "binarize": "dynamic", "batch_size": 50, "limit": 500},
    "model": {"encoder": "mlp", "posterior": {"type": "gaussian", "latent_dim": 2}, "decoder": "mlp"},
    "objective": {"type": "elbo", "rate_weight": 1000.0},
    "training": {"epochs": 3, "device": "cpu", "log_every": 5, "observers": [{"type": "watch", "window": 2}]},
}


def test_observes_a_training_and_knows_the_weight(tmp_path: Path) -> None:
    with pytest.warns(CollapseWarning, match="under rate_weight 1e\\+03: the code") as caught:
        run = Pipeline.from_dict(PIPELINE).fit(tmp_path / "run", quiet=True)
    assert len([w for w in caught if w.category is CollapseWarning]) == 1
    train = [row for row in run.metrics() if row["split"] == "train"]
    assert train[-1]["watch/collapsed"] == 1.0
    history = read_history(run.metrics(), 1.15)
    assert history is not None
    assert history.weights == {"rate_weight": 1000.0}
    with warnings.catch_warnings():
        # What was said once is not said again when the run goes on: it is part of the checkpoint.
        warnings.simplefilter("error")
        longer = Pipeline.from_dict({**PIPELINE, "training": {**PIPELINE["training"], "epochs": 4}})
        longer.fit(tmp_path / "run", resume=True, quiet=True)
    assert Run(tmp_path / "run").metrics()[-1]["epoch"] == 4.0


def rows(*rates: float) -> list[dict[str, Any]]:
    return [
        {"step": s, "rate": r, "split": "train", "rate_weight": s / 10, "lr": 0.1, "loss": 1.0}
        for s, r in enumerate(rates, 1)
    ]


@pytest.mark.parametrize(
    ("rates", "fell", "words"),
    [
        ((0.5, 2, 3, 2, 0.4, 0.2), 5, "fell below 1.00 nats at step 5, under rate_weight 0.5; its highest value was 3.00 at step 3"),
        ((2, 0.5, 2, 0.5, 0.5), 4, "at step 4"),
        ((0.1, 0.2, 0.1), None, "never rose above 1.00 nats in 3 steps, under rate_weight 0.3"),
        ((0.1, 2, 3), None, "ended at 3.00 nats, above 1.00; it never fell for good"),
    ],
)  # fmt: skip
def test_history(rates: tuple[float, ...], fell: int | None, words: str) -> None:
    found = read_history([*rows(*rates), {"step": 9, "rate": 99.0, "split": "validation"}], 1.0)
    assert found is not None
    assert found.fell_step == fell
    assert words in found.sentence


def test_a_record_without_rates_says_nothing() -> None:
    assert read_history([{"step": 1, "loss": 2.0}], 1.0) is None
