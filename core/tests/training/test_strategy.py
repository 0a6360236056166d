"""What a batch does to the model may be a component's business, and resumes like everything else."""

from __future__ import annotations

import signal
from typing import Any, Literal

import pytest
import torch
from training_toys import AlternatingConfig, ToySource, ToySplit, toy_config, toy_trainer
from uncollapse.config import BuildContext, StrategyConfig
from uncollapse.errors import ConfigError, Interrupted
from uncollapse.protocols import Progress
from uncollapse.training.random_batches import RandomBatches

OPTIONS: dict[str, Any] = {"epochs": 4, "polyak": 0.9, "gradient_clip": 2.0}


class JointConfig(StrategyConfig):
    """The default, written out."""

    type: Literal["toy_joint"] = "toy_joint"

    def build(self, context: BuildContext) -> Any:
        return Joint()


class Joint:
    def __call__(self, learning, batch, progress):
        outcome = learning.loss(batch, progress)
        learning.descend(outcome.total)
        return outcome

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def finished(path, **options):
    trainer = toy_trainer(path, toy_config(**{**OPTIONS, **options}))
    trainer.fit()
    return trainer


def weights(trainer, which="last"):
    return trainer.run.checkpoints.open(which).weights()


def rows(trainer):
    return [{k: v for k, v in row.items() if k != "examples_per_second"} for row in trainer.run.metrics()]


def assert_same(first, second):
    for which in ("last", "best"):
        one, other = weights(first, which), weights(second, which)
        assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert rows(first) == rows(second)


def test_the_default_is_one_joint_step(tmp_path):
    assert_same(finished(tmp_path / "default"), finished(tmp_path / "joint", strategy=JointConfig()))


def test_a_strategy_decides_what_a_batch_does(tmp_path):
    trainer = finished(tmp_path / "run", strategy=AlternatingConfig())
    strategy = trainer.learner._strategy
    assert len(strategy.spreads) == 4
    assert len(set(strategy.spreads)) == 4
    train = [row for row in rows(trainer) if row["split"] == "train"]
    # Eight steps an epoch, a row every three; it stops after the second epoch.
    assert all(row["inner_steps"] > 1 for row in train if row["step"] <= 16)
    assert all(row["inner_steps"] == 0 for row in train if row["step"] > 18)


def one_batch(trainer):
    return next(trainer.built.data.train.batches(8))


def test_only_some_parameters_are_stepped_and_all_are_clipped(tmp_path):
    trainer = toy_trainer(tmp_path / "run", toy_config(gradient_clip=0.5, optimizer={"type": "sgd", "lr": 1.0}))
    trainer.prepare()
    learner, model = trainer.learner, trainer.built.model
    encoder = list(model.encoder.parameters())
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    noise = torch.get_rng_state()
    outcome = learner.loss(one_batch(trainer), Progress())
    gradients = torch.autograd.grad(outcome.total, list(model.parameters()))
    torch.set_rng_state(noise)
    learner.descend(learner.loss(one_batch(trainer), Progress()).total, only=encoder)
    factor = 0.5 / (torch.stack([g.square().sum() for g in gradients]).sum().sqrt() + 1e-6)
    assert factor < 1
    for (name, parameter), gradient in zip(model.named_parameters(), gradients, strict=True):
        moved = before[name] - factor * gradient if name.startswith("encoder") else before[name]
        torch.testing.assert_close(parameter.detach(), moved)
    trainer.close()


def to_the_end(trainer):
    with trainer._stop:
        while not trainer._is_over():
            trainer.train_epoch()
            trainer.finish_epoch()


@pytest.mark.parametrize("batch", [11, 16])
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(tmp_path, batch):
    # In the second epoch, and its last step, after which the strategy changes.
    config = toy_config(**OPTIONS, strategy=AlternatingConfig())
    whole = toy_trainer(tmp_path / "whole", config)
    whole.fit()
    source = ToySource()
    stopped = toy_trainer(tmp_path / "run", config, source)

    def interrupt(step: int) -> None:
        if step == batch:
            signal.raise_signal(signal.SIGTERM)

    stopped.prepare()
    stopped._display.advance = interrupt  # Called after every step.
    with pytest.raises(Interrupted):
        to_the_end(stopped)
    stopped.close()
    resumed = toy_trainer(tmp_path / "run", config)
    resumed.fit(resume=True)
    assert_same(whole, resumed)
    assert resumed.learner._strategy.state_dict() == whole.learner._strategy.state_dict()


def test_a_strategy_that_validates_needs_a_validation_split(tmp_path):
    trainer = toy_trainer(tmp_path / "run", toy_config(strategy=AlternatingConfig()), ToySource(validation=0))
    with pytest.raises(ConfigError, match="'toy_alternating' decides by the validation split, which is empty"):
        trainer.fit()
    assert not (tmp_path / "run").exists()


def _draw(count: int, rank: int = 0, world: int = 1, state: dict[str, int] | None = None) -> list[torch.Tensor]:
    batches = RandomBatches(ToySplit(20, seed=1), 6, rank, world, torch.device("cpu"))
    if state is not None:
        batches.load_state_dict(state)
    return [batches.next().x for _ in range(count)]


def test_random_batches_go_on_where_they_stood():
    split = ToySplit(20, seed=1)
    batches = RandomBatches(split, 6, 0, 1, torch.device("cpu"))
    first = [batches.next().x for _ in range(7)]
    state = batches.state_dict()
    assert state == {"pass": 2, "position": 1}
    rest = [batches.next().x for _ in range(6)]
    torch.testing.assert_close(_draw(6, state=state), rest)
    torch.testing.assert_close(_draw(7), first)
    # Three full batches a pass, other ones in every pass, none as in the run's epochs.
    assert not torch.equal(first[0], first[3])
    assert not torch.equal(first[0], next(split.batches(6, shuffle=True)).x)


def test_processes_share_random_batches():
    shares = zip(_draw(5, 0, 2), _draw(5, 1, 2), strict=True)
    torch.testing.assert_close([torch.cat(both) for both in shares], _draw(5))


def test_a_set_smaller_than_a_batch_is_one_batch():
    batches = RandomBatches(ToySplit(4, seed=1), 6, 0, 1, torch.device("cpu"))
    assert [len(batches.next()) for _ in range(3)] == [4, 4, 4]


def test_a_strategy_is_part_of_the_checkpoint(tmp_path):
    trainer = finished(tmp_path / "run", strategy=AlternatingConfig(), epochs=1)
    saved = trainer.run.checkpoints.open("last").state()["strategy"]
    assert saved["own"] == trainer.learner._strategy.state_dict()
    assert saved["random_batches"] == trainer.learner._random.state_dict() != {"pass": 0, "position": 0}
