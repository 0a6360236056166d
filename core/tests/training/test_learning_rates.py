from __future__ import annotations

import math

import pytest
import torch
from numpy.testing import assert_allclose
from pydantic import ValidationError
from training_toys import SPEC
from uncollapse.config import BuildContext
from uncollapse.errors import ConfigError
from uncollapse.learning_rates import CosineConfig, MultistepConfig, WarmupConfig
from uncollapse.optimizers import AdamaxConfig, AdamConfig, AdamWConfig, RMSpropConfig, SGDConfig
from uncollapse.protocols import Reaction
from uncollapse_baselines import ExponentialConfig, NoamConfig, PlateauConfig, PlateauSchedule

CONTEXT = BuildContext(SPEC, steps_per_epoch=10, epochs=6)


def test_noam_is_that_of_the_released_code(oracle):
    reference = oracle("mim_noam_lr")
    inputs = reference["inputs"]
    factor = NoamConfig(warmup_epochs=inputs["warmup_steps"]).build(CONTEXT)
    got = [inputs["lr"] * factor(10 * epoch + 5) for epoch in range(inputs["epochs"])]
    assert_allclose(got, reference["expected"]["lr_per_epoch"], rtol=reference["rtol"], atol=1e-12)


def test_exponential_decays_at_every_step():
    factor = ExponentialConfig().build(CONTEXT)
    assert factor(0) == 1.0
    assert factor(1000) == pytest.approx(0.999998**1000)


def test_cosine_rises_then_falls_to_the_final_factor():
    factor = CosineConfig(warmup_epochs=1, final=0.1).build(CONTEXT)
    assert [factor(s) for s in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert factor(10) == 1.0
    assert factor(35) == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 2)))
    assert factor(60) == pytest.approx(0.1)


def test_multistep_drops_at_milestones():
    factor = MultistepConfig(milestones=(2, 4), factor=0.5).build(CONTEXT)
    assert [factor(s) for s in (19, 20, 39, 40, 59)] == [1, 0.5, 0.5, 0.25, 0.25]


def test_warmup_rises_to_one_and_stays():
    factor = WarmupConfig(epochs=2).build(CONTEXT)
    assert [factor(s) for s in (0, 9, 19, 50)] == pytest.approx([0.05, 0.5, 1, 1])


@pytest.mark.parametrize(
    "config", [CosineConfig(warmup_epochs=6), MultistepConfig(milestones=(7,)), WarmupConfig(epochs=7)]
)
def test_a_schedule_longer_than_the_run_is_an_error_that_names_its_field(config):
    with pytest.raises(
        ConfigError, match=r"training\.learning_rate\.(warmup_epochs|milestones|epochs).*training\.epochs is 6"
    ):
        config.build(CONTEXT)


@pytest.mark.parametrize("milestones", [(3, 2), (2, 2), (0, 2)])
def test_milestones_must_ascend(milestones):
    with pytest.raises(ValidationError, match="ascending"):
        MultistepConfig(milestones=milestones)


def test_plateau_halves_after_patience_and_stops_at_the_third_decay():
    schedule = PlateauConfig(patience=2, max_decays=3, decay_per_step=0.99).build(CONTEXT)
    reactions = [schedule.validated(loss, 10) for loss in (5, 4, 4, 4)]
    assert reactions == [Reaction(), Reaction(), Reaction(), Reaction(reset_optimizer=True)]
    assert schedule(10) == pytest.approx(0.5 * 0.99**10)
    ends = [schedule.validated(9, 10).stop for _ in range(4)]
    assert ends == [False, False, False, True]


def test_plateau_of_lagging_networks_forgets_the_best_and_waits_for_its_epoch():
    schedule = PlateauSchedule(1, from_step=20, reload_best=True, forget_best=True)
    assert schedule.validated(1.0, 10) == Reaction()
    assert schedule.validated(2.0, 10) == Reaction(), "too early to decay"
    assert schedule.validated(3.0, 20) == Reaction(reset_optimizer=True, reload_best=True)
    assert schedule.validated(2.5, 30) == Reaction(), "better than the loss at the decay, though not the best ever"


def test_plateau_ends_below_the_smallest_factor():
    schedule = PlateauSchedule(1, min_factor=0.3)
    assert [schedule.validated(1, 0).stop for _ in range(3)] == [False, False, True]


def test_plateau_goes_on_where_its_state_was_taken():
    first, second = PlateauSchedule(3), PlateauSchedule(3)
    for loss in (3, 2, 4, 4):
        first.validated(loss, 0)
    second.load_state_dict(first.state_dict())
    assert [first.validated(9, 0), first(7)] == [second.validated(9, 0), second(7)]
    assert second.decays == 1


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (AdamConfig(), torch.optim.Adam),
        (AdamWConfig(), torch.optim.AdamW),
        (AdamaxConfig(), torch.optim.Adamax),
        (SGDConfig(lr=0.1, momentum=0.9), torch.optim.SGD),
        (RMSpropConfig(), torch.optim.RMSprop),
    ],
)
def test_optimizers_step_downhill_at_their_rate(config, kind):
    parameter = torch.nn.Parameter(torch.tensor([3.0]))
    optimizer = config.build(iter([parameter]))
    assert type(optimizer) is kind
    assert optimizer.param_groups[0]["lr"] == config.lr
    for _ in range(3):
        optimizer.zero_grad()
        (parameter**2).sum().backward()
        optimizer.step()
    assert parameter.item() < 3.0


def test_adam_falls_back_where_no_fused_kernel_exists(monkeypatch):
    class NoKernel(torch.optim.Adam):
        def __init__(self, parameters, fused=False, **options):
            if fused:
                raise RuntimeError("`fused=True` requires all the params to be on supported devices")
            super().__init__(parameters, **options)

    monkeypatch.setattr(torch.optim, "Adam", NoKernel)
    optimizer = AdamConfig(lr=0.25).build(iter([torch.nn.Parameter(torch.ones(2))]))
    assert not optimizer.param_groups[0]["fused"]
    assert optimizer.param_groups[0]["lr"] == 0.25
    assert len(optimizer.param_groups[0]["params"]) == 1, "an iterator of parameters is not used up by the first try"


def test_optimizers_refuse_what_cannot_work():
    with pytest.raises(ValidationError, match=r"\[0, 1\)"):
        AdamConfig(betas=(0.9, 1.0))
    with pytest.raises(ValidationError, match="momentum"):
        SGDConfig(lr=0.1, nesterov=True)


def test_plateau_ends_where_steps_alone_have_lowered_the_rate_enough():
    schedule = PlateauSchedule(50, min_factor=0.05, decay_per_step=0.999995)
    assert next(e for e in range(1, 1001) if schedule.validated(-float(e), 750 * e).stop) == 799
    assert schedule.decays == 0
