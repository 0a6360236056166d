from __future__ import annotations

import json
import math
import signal
import threading
import warnings

import pytest
import torch
from torch import nn
from training_toys import ToySource, toy_config, toy_trainer
from uncollapse.errors import ConfigError, Interrupted, NonFiniteLossError, RunDirectoryError
from uncollapse.objectives import ELBOConfig
from uncollapse.protocols import Penalty
from uncollapse.training import Run
from uncollapse.training.records import ProgressDisplay
from uncollapse.training.state import TrainingState


def rows_of(run, split):
    return [row for row in run.metrics() if row["split"] == split]


def weights_of(run, which="last", averaged=False):
    return run.checkpoints.open(which).weights(averaged=averaged)


def assert_same_run(first, second):
    for which in ("last", "best"):
        for averaged in (False, True):
            one, other = weights_of(first, which, averaged), weights_of(second, which, averaged)
            assert list(one) == list(other)
            assert all(torch.equal(one[name], other[name]) for name in one)
    assert without_timing(first) == without_timing(second)


def without_timing(run):
    return [{k: v for k, v in row.items() if k != "examples_per_second"} for row in run.metrics()]


def test_a_run_trains_and_leaves_what_it_promises(tmp_path):
    config = toy_config(epochs=12, optimizer={"type": "adam", "lr": 0.01}, polyak=0.9)
    trainer = toy_trainer(tmp_path / "run", config)
    trainer.fit()
    run = Run(tmp_path / "run")
    present = {p.name for p in run.path.iterdir()}
    assert {"pipeline.yaml", "environment.json", "metrics.jsonl", "checkpoints"} <= present
    train, validation = rows_of(run, "train"), rows_of(run, "validation")
    assert [row["step"] for row in validation] == [8 * e for e in range(1, 13)]
    assert {3, 6, 8, 9, 12, 15, 16} <= {row["step"] for row in train}
    assert train[-1]["loss"] < train[0]["loss"] - 0.3
    assert validation[-1]["loss"] < validation[0]["loss"]
    expected = {"step", "epoch", "split", "loss", "elbo", "rate", "distortion", "rate_weight"}
    assert set(validation[0]) == expected
    assert set(train[0]) == expected | {"lr", "examples_per_second"}
    files = {p.name for p in (run.path / "checkpoints" / "last").iterdir()}
    assert files == {"model.safetensors", "averaged.safetensors", "state.pt", "meta.json"}
    assert (run.path / "checkpoints" / "best" / "meta.json").exists()
    folders = [p for p in (run.path / "checkpoints").iterdir() if not p.is_symlink()]
    assert len(folders) <= 2, "older checkpoints are removed"
    environment = run.environment
    assert environment["packages"]["torch"] == torch.__version__
    assert environment["plugins"][0]["name"] == "core"


def test_training_loss_is_the_mean_over_examples(tmp_path):
    # 20 examples in batches of 8, 8 and 4: a mean over batches would weigh the last ones double.
    config = toy_config(
        data={"size": 20}, epochs=1, drop_last=False, log_every=100, optimizer={"type": "sgd", "lr": 1e-9}
    )
    trainer = toy_trainer(tmp_path / "run", config)
    seen, inner = [], trainer.built.objective
    inner.rate_weight = lambda progress: 0.0

    class Spy:
        def __call__(self, model, batch, progress):
            loss = inner(model, batch, progress)
            if not progress.final:
                seen.append(loss.terms["distortion"].detach())
            return loss

    object.__setattr__(trainer.built, "objective", Spy())
    trainer.fit()
    (row,) = rows_of(trainer.run, "train")
    assert [len(s) for s in seen] == [8, 8, 4]
    assert row["distortion"] == pytest.approx(torch.cat(seen).double().mean().item(), rel=1e-6)
    assert row["loss"] == pytest.approx(row["distortion"], rel=1e-6)


def test_validation_is_at_every_schedules_final_value_and_picks_the_best(tmp_path):
    annealed = ELBOConfig(rate_weight={"type": "linear", "until_epoch": 4, "start": 0.0, "end": 1.0})
    trainer = toy_trainer(tmp_path / "run", toy_config(epochs=5, objective=annealed, early_stopping={"patience": 1}))
    trainer.fit()
    validation = rows_of(trainer.run, "validation")
    for row in validation:
        assert row["rate_weight"] == 1.0
        assert row["loss"] == pytest.approx(row["distortion"] + row["rate"], rel=1e-6)
    assert rows_of(trainer.run, "train")[0]["rate_weight"] < 0.2
    best = min(validation, key=lambda row: row["loss"])
    assert trainer.run.checkpoints.open("best").step == best["step"]


def test_early_stopping_waits_for_the_schedules_and_keeps_the_best(tmp_path):
    # A rate this high makes validation worse; patience may only run once the annealing is over (epoch 3).
    annealed = ELBOConfig(rate_weight={"type": "linear", "until_epoch": 3})
    config = toy_config(
        epochs=20,
        objective=annealed,
        early_stopping={"patience": 2, "min_delta": 1000.0},
        optimizer={"type": "sgd", "lr": 1e-3},
    )
    trainer = toy_trainer(tmp_path / "run", config)
    trainer.fit()
    # Nothing ever improves by 1000 nats: epochs 3 and 4 are the first two that count.
    assert trainer.state.epoch == 4
    assert trainer.state.stale == 2
    best = min(rows_of(trainer.run, "validation"), key=lambda row: row["loss"])
    assert trainer.run.checkpoints.open("best").step == best["step"]


def test_early_stopping_counts_improvements_by_min_delta():
    state, stopping = (
        TrainingState(),
        toy_config(early_stopping={"patience": 3, "min_delta": 0.5}).training.early_stopping,
    )
    values = [5.0, 4.8, 4.6, 4.4]
    improved = [state.judge(value, stopping, settled=True) for value in values]
    assert improved == [True] * 4, "each is the best so far"
    assert state.stale == 0, "4.4 beats 5.0 by more than 0.5"
    assert [state.judge(4.3, stopping, settled=False), state.stale] == [True, 0]
    for _ in range(3):
        assert not state.is_over(100, stopping)
        state.judge(4.4, stopping, settled=True)
    assert state.is_over(100, stopping)


def test_monitoring_the_elbo_ignores_penalties(tmp_path):
    class Growing(nn.Module):
        """A penalty that grows with every validation."""

        validations = 0

        def forward(self, inference):
            self.validations += inference.progress.final
            return Penalty(inference.z.sum() * 0 + 100.0 * self.validations)

    def add(built):
        built.regularizers["growing"] = Growing()

    options = {"epochs": 4, "optimizer": {"type": "adam", "lr": 0.01}}
    by_loss = toy_trainer(tmp_path / "loss", toy_config(**options), change=add)
    by_elbo = toy_trainer(tmp_path / "elbo", toy_config(monitor="elbo", **options), change=add)
    by_loss.fit()
    by_elbo.fit()
    assert by_loss.run.checkpoints.open("best").step == 8
    best = max(rows_of(by_elbo.run, "validation"), key=lambda row: row["elbo"])
    assert by_elbo.run.checkpoints.open("best").step == best["step"] > 8
    assert best["growing"] > 0
    assert best["loss"] == pytest.approx(best["growing"] - best["elbo"], rel=1e-6)


def test_same_seed_same_run_other_seed_other_run(tmp_path):
    runs = []
    for i, seed in enumerate((3, 3, 4)):
        trainer = toy_trainer(tmp_path / str(i), toy_config(seed=seed))
        trainer.fit()
        runs.append(trainer.run)
    assert_same_run(runs[0], runs[1])
    assert without_timing(runs[0]) != without_timing(runs[2])


def test_an_existing_run_is_never_touched(tmp_path):
    toy_trainer(tmp_path / "run", toy_config()).fit()
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    with pytest.raises(RunDirectoryError, match="--resume"):
        toy_trainer(tmp_path / "run", toy_config()).fit()
    assert {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()} == before


def test_nothing_is_written_when_the_run_cannot_start(tmp_path):
    with pytest.raises(ConfigError, match=r"warmup_epochs.*training\.epochs"):
        toy_trainer(tmp_path / "run", toy_config(learning_rate={"type": "cosine", "warmup_epochs": 9})).fit()
    assert not (tmp_path / "run").exists()
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match=r"training\.device: 'cuda'.*cpu"):
            toy_trainer(tmp_path / "run", toy_config(device="cuda"))
    assert not (tmp_path / "run").exists()


def test_a_non_finite_loss_names_step_term_and_batch_and_spares_the_checkpoint(tmp_path):
    config = toy_config(epochs=3, log_every=4)
    trainer = toy_trainer(tmp_path / "run", config, ToySource(poison=(1, 5)))
    with pytest.raises(NonFiniteLossError) as caught:
        trainer.fit()
    message = str(caught.value)
    assert "step 13" in message
    assert "batch 5 of epoch 1" in message
    assert "distortion = nan" in message
    assert "training.optimizer.lr" in message
    last = trainer.run.checkpoints.open("last")
    assert last.step == 8
    assert all(value.isfinite().all() for value in last.weights().values())


def test_a_non_finite_gradient_is_caught_before_the_checkpoint(tmp_path):
    class Explodes(nn.Module):
        """Finite itself, with an infinite gradient in step 8, the last of the first epoch."""

        def forward(self, inference):
            total = inference.z.abs().sum()
            return Penalty((total - total.detach()).sqrt() if inference.progress.step == 7 else total * 0)

    def add(built):
        built.regularizers["explodes"] = Explodes()

    config = toy_config(epochs=3, checkpoint_every_steps=4)
    trainer = toy_trainer(tmp_path / "run", config, change=add)
    with pytest.raises(NonFiniteLossError, match=r"gradient of step 7, in batch 7 of epoch 0.*encoder"):
        trainer.fit()
    assert trainer.run.checkpoints.open("last").step == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("batch", [5, 8, 10])
def test_a_signal_saves_and_the_resumed_run_is_the_same(tmp_path, number, batch):
    # The 8th batch is the last of the epoch; the 10th is the second of the validation that follows (3 batches).
    config = toy_config(polyak=0.9, epochs=3)
    whole = toy_trainer(tmp_path / "whole", config)
    whole.fit()
    source = ToySource()

    def interrupt(count):
        if count == batch:
            signal.raise_signal(number)

    # The first batch of all is the one for data-dependent initialization.
    source.train.on_batch = lambda count: interrupt(count - 1)
    source.validation.on_batch = lambda count: interrupt(8 + count)
    stopped = toy_trainer(tmp_path / "run", config, source)
    handler = signal.getsignal(number)
    with pytest.raises(Interrupted, match="uncollapse train PIPELINE --resume"):
        stopped.fit()
    assert signal.getsignal(number) is handler, "handlers are put back"
    assert stopped.run.checkpoints.open("last").step == min(batch, 8)
    resumed = toy_trainer(tmp_path / "run", config)
    resumed.fit(resume=True)
    assert_same_run(whole.run, resumed.run)
    assert resumed.run.environment["resumed"]


def test_resuming_a_finished_run_changes_nothing_and_more_epochs_go_on(tmp_path):
    toy_trainer(tmp_path / "run", toy_config(epochs=2)).fit()
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    toy_trainer(tmp_path / "run", toy_config(epochs=2)).fit(resume=True)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before
    longer = toy_trainer(tmp_path / "run", toy_config(epochs=4))
    longer.fit(resume=True)
    whole = toy_trainer(tmp_path / "whole", toy_config(epochs=4))
    whole.fit()
    assert_same_run(longer.run, whole.run)


def test_resuming_another_pipeline_names_what_differs(tmp_path):
    toy_trainer(tmp_path / "run", toy_config()).fit()
    with pytest.raises(RunDirectoryError, match=r"seed was 0, now 5.*training\.polyak was None, now 0\.5"):
        toy_trainer(tmp_path / "run", toy_config(seed=5, polyak=0.5)).fit(resume=True)
    with pytest.raises(RunDirectoryError, match="no run to resume"):
        toy_trainer(tmp_path / "none", toy_config()).fit(resume=True)


def test_plateau_resets_moments_reloads_the_best_and_ends_the_run(tmp_path):
    config = toy_config(
        epochs=30,
        optimizer={"type": "adam", "lr": 0.5},
        learning_rate={"type": "plateau", "patience": 1, "max_decays": 2, "reload_best": True},
    )
    trainer = toy_trainer(tmp_path / "run", config)
    trainer.prepare()
    learner, reloaded = trainer.learner, []
    inner = learner._load_model

    def load(checkpoint):
        inner(checkpoint)
        reloaded.append((trainer.state.step, checkpoint.step, len(learner.optimizer.state)))

    learner._load_model = load
    while not trainer._is_over():
        trainer.train_epoch()
        trainer.finish_epoch()
        if reloaded and reloaded[-1][0] == trainer.state.step:
            assert len(learner.optimizer.state) == 0
    trainer.close()
    assert trainer.state.stopped
    assert trainer.state.epoch < 30
    assert len(reloaded) == 1, "the second decay ends the run"
    assert reloaded[0][1] < reloaded[0][0]
    rates = sorted({row["lr"] for row in rows_of(trainer.run, "train")})
    assert rates == [0.25, 0.5]


def test_gradient_clipping_bounds_the_step(tmp_path):
    norms = {}
    for name, clip in (("free", None), ("clipped", 1e-3)):
        config = toy_config(epochs=1, gradient_clip=clip, optimizer={"type": "sgd", "lr": 1.0})
        trainer = toy_trainer(tmp_path / name, config)
        trainer.prepare()
        before = torch.cat([p.detach().flatten().clone() for p in trainer.built.model.parameters()])
        trainer.train_epoch()
        after = torch.cat([p.detach().flatten() for p in trainer.built.model.parameters()])
        norms[name] = (after - before).norm().item()
        trainer.close()
    assert norms["clipped"] <= 8 * 1e-3 * (1 + 1e-4) < norms["free"]


def test_data_dependent_initialization_runs_once_before_averaging(tmp_path):
    calls = []

    def add(built):
        def initialize(x):
            calls.append(x.shape[0])
            with torch.no_grad():
                built.model.decoder.net[0].bias.fill_(3.0)

        built.model.prior.initialize = initialize

    config = toy_config(epochs=1, polyak=0.999999, initialize_examples=17)
    trainer = toy_trainer(tmp_path / "run", config, change=add)
    trainer.fit()
    assert calls == [17]
    bias = weights_of(trainer.run, averaged=True)["decoder.net.0.bias"]
    torch.testing.assert_close(bias, torch.full_like(bias, 3.0), rtol=1e-4, atol=0)
    toy_trainer(tmp_path / "run", toy_config(epochs=2, polyak=0.999999, initialize_examples=17), change=add).fit(
        resume=True
    )
    assert calls == [17], "a resumed run is not initialized again"


def test_bfloat16_trains_close_to_float32(tmp_path):
    last = {}
    for precision in ("fp32", "bf16"):
        trainer = toy_trainer(tmp_path / precision, toy_config(epochs=5, precision=precision))
        trainer.fit()
        assert all(p.dtype == torch.float32 for p in trainer.built.model.parameters())
        last[precision] = rows_of(trainer.run, "train")[-1]["loss"]
    assert last["bf16"] != last["fp32"]
    assert last["bf16"] == pytest.approx(last["fp32"], rel=0.02)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0")
def test_compiling_the_step_changes_nothing_and_happens_once(tmp_path, monkeypatch):
    graphs = []

    def backend(module, inputs):
        graphs.append(module)
        return module.forward

    inner = torch.compile
    # Dynamo traces, and nothing is generated from what it found: quick, and the numbers must be those of eager code.
    monkeypatch.setattr(torch, "compile", lambda function: inner(function, backend=backend))
    annealed = ELBOConfig(rate_weight={"type": "linear", "until_epoch": 2})
    trainers = [
        toy_trainer(tmp_path / str(compiled), toy_config(epochs=4, compile=compiled, objective=annealed))
        for compiled in (True, False)
    ]
    trainers[0].prepare()
    counts = []
    for _ in range(4):
        trainers[0].train_epoch()
        counts.append(len(graphs))
        trainers[0].finish_epoch()
        counts.append(len(graphs))
    trainers[0].close()
    trainers[1].fit()
    assert counts[0] > 0
    # Training, validation and its last, shorter batch; the end of the annealing may cost one more.
    assert counts[5:] == [counts[5]] * 3, f"nothing is compiled again and again: {counts}"
    assert without_timing(trainers[0].run) == without_timing(trainers[1].run)


def test_the_host_reads_the_device_at_log_points_only(tmp_path, monkeypatch):
    """Counts every call that would wait for an accelerator."""
    trainer = toy_trainer(tmp_path / "run", toy_config(log_every=4, polyak=0.9, gradient_clip=1.0))
    trainer.prepare()
    reads = []
    for name in ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__"):
        inner = getattr(torch.Tensor, name)

        def spy(self, *args, _name=name, _inner=inner, **kwargs):
            reads.append((trainer.state.step, _name))
            return _inner(self, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, spy)
    trainer.train_epoch()
    trainer.close()
    assert {step for step, _ in reads} == {4, 8}


def test_tensorboard_gets_the_same_numbers(tmp_path):
    pytest.importorskip("tensorboard")
    trainer = toy_trainer(tmp_path / "run", toy_config())
    trainer.fit()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
        events.Reload()
    got = {e.step: e.value for e in events.Scalars("validation/loss")}
    expected = {row["step"]: row["loss"] for row in rows_of(trainer.run, "validation")}
    assert got == pytest.approx(expected)


def test_a_run_goes_without_tensorboard(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    toy_trainer(tmp_path / "run", toy_config(epochs=1)).fit()
    assert not (tmp_path / "run" / "tensorboard").exists()
    assert Run(tmp_path / "run").metrics()


def test_numbers_that_json_cannot_hold_become_null(tmp_path):
    class Infinite(nn.Module):
        """A term that is infinite while the penalty is not."""

        def forward(self, inference):
            return Penalty(inference.z.sum() * 0, {"ratio": torch.tensor(math.inf)})

    def add(built):
        built.regularizers["infinite"] = Infinite()

    trainer = toy_trainer(tmp_path / "run", toy_config(epochs=1), change=add)
    trainer.fit()
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()

    def refuse(text):
        raise AssertionError(text)

    rows = [json.loads(line, parse_constant=refuse) for line in lines]
    assert all(row["infinite/ratio"] is None for row in rows)


def test_progress_is_shown_on_a_terminal_only(capsys, monkeypatch):
    row = {"step": 5, "epoch": 0.5, "loss": 1.5, "rate": 0.5, "distortion": 1.0, "examples_per_second": 100.0}
    for quiet, environment, shown in ((False, "1", True), (True, "1", False), (False, "", False)):
        monkeypatch.setenv("FORCE_COLOR", environment)
        display = ProgressDisplay(10, 0, quiet=quiet)
        display.show(row)
        display.close()
        error = capsys.readouterr().err
        assert ("distortion 1.00" in error) is shown
        assert ("100 examples/s" in error) is shown


def test_training_works_outside_the_main_thread(tmp_path):
    trainer = toy_trainer(tmp_path / "run", toy_config(epochs=1))
    thread = threading.Thread(target=trainer.fit)
    thread.start()
    thread.join()
    assert trainer.state.epoch == 1


def test_a_set_without_validation_keeps_the_last_as_best(tmp_path):
    trainer = toy_trainer(tmp_path / "run", toy_config(), ToySource(validation=0))
    trainer.fit()
    assert trainer.run.checkpoints.open("best").step == 16


def test_monitor_last_keeps_the_last_checkpoint_as_the_best(tmp_path):
    trainer = toy_trainer(tmp_path / "run", toy_config(epochs=4, monitor="last", optimizer={"type": "adam", "lr": 2.0}))
    trainer.fit()
    best, last = (trainer.run.checkpoints.open(which) for which in ("best", "last"))
    assert best.step == last.step == trainer.state.step
    # A rate of 2 lets the loss rise, so that by its loss another checkpoint would have been chosen.
    losses = [row["loss"] for row in trainer.run.metrics() if row["split"] == "validation"]
    assert losses.index(min(losses)) < len(losses) - 1


class Tightening(nn.Module):
    """A penalty whose weight grows for some epochs, as a constraint's multiplier does: early losses are low."""

    def __init__(self, until):
        super().__init__()
        self.until, self.seen = until, 0

    @property
    def settled(self):
        return self.seen >= self.until

    def forward(self, inference):
        if self.training:
            self.seen += 1
        return Penalty(torch.tensor(100.0 * min(self.seen, self.until)) + 0 * inference.z.sum())


@pytest.mark.parametrize(("until", "first"), [(6, 6), (10_000, None)])
def test_the_best_is_chosen_among_losses_that_can_be_compared(tmp_path, until, first):
    config = toy_config(epochs=4)
    trainer = toy_trainer(tmp_path / "run", config)
    trainer.built.regularizers["tightening"] = Tightening(until)
    trainer.fit()
    best = trainer.run.checkpoints.open("best").step
    if first is None:
        assert best == trainer.state.step, "nothing ever settled, so the last counts"
        assert trainer.state.best is None
    else:
        assert best >= first
        settled = [r["loss"] for r in trainer.run.metrics() if r["split"] == "validation" and r["step"] >= first]
        assert trainer.state.best == pytest.approx(min(settled))


def test_what_cannot_be_compared_lets_patience_wait():
    state = TrainingState()
    assert state.judge(1.0, None, settled=False, comparable=False)
    assert (state.best, state.stale) == (None, 0)
    assert state.judge(3.0, None, settled=True)
    # A multiplier that moves again: what was chosen stays.
    assert not state.judge(1.0, None, settled=False, comparable=False)
    assert state.best == 3.0
