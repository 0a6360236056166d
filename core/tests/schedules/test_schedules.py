from __future__ import annotations

import pytest
from numpy.testing import assert_allclose
from uncollapse.protocols import Progress, finished
from uncollapse.schedules import ConstantSchedule, LinearSchedule
from uncollapse_baselines import CyclicalSchedule


def weights(schedule, steps, steps_per_epoch):
    return [schedule(Progress(step, steps_per_epoch)) for step in range(steps)]


@pytest.mark.parametrize(("key", "start"), [("duvae", "kl_start"), ("lagging_0.1", "kl_start2")])
def test_annealing_per_step_is_incremented_before_use(oracle, key, start):
    reference = oracle("kl_anneal")
    inputs, expected = reference["inputs"], reference["expected"][key]
    schedule = LinearSchedule(inputs["warm_up_epochs"], start=inputs[start])
    got = weights(schedule, len(expected), inputs["iters_per_epoch"])
    assert_allclose(got, expected, rtol=reference["rtol"], atol=1e-10)
    assert got[-1] == 1.0, "released codes compare the final weight with ==, so it must be exactly 1"


def test_annealing_per_epoch_counts_epochs_from_one(oracle):
    reference = oracle("kl_anneal")
    expected = reference["expected"]["vamp_epochs_1_to_7"]
    schedule = LinearSchedule(reference["inputs"]["vamp_warmup"], per="epoch")
    got = [schedule(Progress(epoch * 10 + inside, 10)) for epoch in range(len(expected)) for inside in (0, 9)]
    assert_allclose(got[0::2], expected, rtol=reference["rtol"], atol=1e-10)
    assert got[0::2] == got[1::2], "constant inside an epoch"


@pytest.mark.parametrize(
    ("schedule", "final", "length"),
    [
        (ConstantSchedule(0.3), 0.3, 0),
        (LinearSchedule(4, start=0.1, end=0.7), 0.7, 4),
        (LinearSchedule(4, end=0.7, per="epoch"), 0.7, 4),
        (CyclicalSchedule(8, cycles=2, end=0.7), 0.7, 8),
    ],
)
def test_final_value_holds_where_asked_for_and_after_the_length(schedule, final, length):
    assert schedule.length() == length
    assert schedule(finished(Progress(0, 10))) == final
    assert [schedule(Progress(step, 10)) for step in range(10 * length, 10 * length + 20)] == [final] * 20


def test_cycles_rise_and_stay():
    # Two cycles of 10 steps each, of which the first half rises.
    got = weights(CyclicalSchedule(2, cycles=2, rise=0.5), 20, 10)
    cycle = [0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1]
    assert_allclose(got, cycle + cycle, atol=1e-12)
