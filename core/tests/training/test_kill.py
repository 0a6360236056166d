"""A kill at any instant leaves a run that can be resumed to the same end, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import time

import torch
from training_toys import ToySource, toy_trainer
from training_workers import long_config, train_for_kill
from uncollapse.training import Run

KILLS = 20


def end_of(run):
    """Return weights, training state and metrics of a finished run, without what tells the time."""
    found = {}
    for which in ("last", "best"):
        checkpoint = run.checkpoints.open(which)
        state = checkpoint.state()
        found[which] = {
            "step": checkpoint.step,
            "weights": checkpoint.weights(),
            "averaged": checkpoint.weights(averaged=True),
            **{name: value for name, value in state.items() if name != "model_rest"},
        }
    found["metrics"] = [{k: v for k, v in row.items() if k != "examples_per_second"} for row in run.metrics()]
    return found


def assert_equal(one, other, place="run"):
    assert type(one) is type(other), place
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), place
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key, value in one.items():
            assert_equal(value, other[key], f"{place}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), place
        for i, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_equal(left, right, f"{place}.{i}")
    else:
        assert one == other, place


def test_twenty_kills_end_where_an_uninterrupted_run_does(tmp_path, forkserver, monkeypatch):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    whole = toy_trainer(tmp_path / "whole", long_config(), ToySource(60, 20))
    with monkeypatch.context() as patch:
        # Nobody pulls the plug here, and waiting for the disk at every step is most of the time.
        patch.setattr(os, "fsync", lambda handle: None)
        whole.fit()
    torch.set_num_threads(threads)

    chance = random.Random(0)
    steps, during_checkpoint = [0], 0
    run = Run(tmp_path / "killed")
    for kill in range(KILLS + 1):
        given = forkserver.Value("i", 0)
        resume = (run.path / "pipeline.yaml").exists()
        victim = forkserver.Process(target=train_for_kill, args=(str(run.path), given, resume))
        victim.start()
        if kill == KILLS:
            victim.join()
            assert victim.exitcode == 0
            break
        # Wait until some batches of this life have begun, then for a random part of a step and its checkpoint.
        wanted = chance.randint(1, 5)
        deadline = time.monotonic() + 60
        while given.value < wanted:
            assert victim.is_alive(), "it must live when it is killed"
            assert time.monotonic() < deadline
            time.sleep(0.0005)
        time.sleep(chance.uniform(0, 0.03))
        # Every other one waits for a checkpoint to be begun: chance alone may miss them all.
        while kill % 2 and not any(run.checkpoints.folder.glob(".*")):
            assert time.monotonic() < deadline
        assert victim.is_alive()
        victim.kill()
        victim.join()
        assert victim.exitcode == -signal.SIGKILL, "it died of the kill, in the middle of training"
        leftovers = list(run.checkpoints.folder.glob(".*"))
        during_checkpoint += bool(leftovers)
        if run.checkpoints.has("last"):
            steps.append(run.checkpoints.open("last").step)
            run.checkpoints.open("last").weights()
            run.checkpoints.open("last").state()
    assert steps == sorted(steps)
    assert steps[-1] < whole.state.step, "every kill came before the end"
    assert steps[-1] > KILLS, "the run went on between kills"
    assert during_checkpoint > 0, "some kills hit a checkpoint being written"
    assert_equal(end_of(run), end_of(whole.run))
