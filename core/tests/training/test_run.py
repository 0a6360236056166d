from __future__ import annotations

import json

import pytest
import torch
from training_toys import toy_config
from uncollapse.config.load import dump_config
from uncollapse.errors import CheckpointError, RunDirectoryError
from uncollapse.pipeline import Pipeline
from uncollapse.training import Run, Trainer
from uncollapse.training.records import MetricsFile
from uncollapse.training.run import fingerprint

DIGITS = {
    "name": "digits-run",
    "data": {"type": "digits", "batch_size": 200},
    "model": {
        "encoder": {"type": "mlp", "hidden": [8]},
        "posterior": {"type": "gaussian", "latent_dim": 2},
        "decoder": {"type": "mlp", "hidden": [8]},
    },
    "training": {"epochs": 2, "polyak": 0.5, "device": "cpu"},
}


@pytest.fixture
def trained(tmp_path):
    pipeline = Pipeline.from_dict(DIGITS)
    run = Run(tmp_path / "run")
    trainer = Trainer(pipeline.config, pipeline.build(), run, quiet=True)
    trainer.fit()
    return run, trainer


def test_load_gives_the_trained_averaged_model(trained):
    run, trainer = trained
    assert dump_config(run.config) == dump_config(Pipeline.from_dict(DIGITS).config)
    built = run.load("last")
    assert not built.model.training
    averages = trainer.learner.average.averages()
    for name, parameter in built.model.named_parameters():
        assert torch.equal(parameter, averages[name])
    best = Run(run.path).load()
    x = next(iter(best.data.test.batches(10))).x
    assert best.model.infer(x).mean.shape == (10, 2)


def test_load_says_when_a_checkpoint_is_of_another_pipeline(trained):
    run, _ = trained
    path = run.path / "pipeline.yaml"
    path.write_text(path.read_text().replace("latent_dim: 2", "latent_dim: 3"))
    with pytest.raises(CheckpointError, match=r"another pipeline: .*(8, 2|4, 8).* in the checkpoint"):
        Run(run.path).load()


def test_results_are_written_and_read(trained):
    run, _ = trained
    assert run.results is None
    run.write_results({"estimates": {"rate": {"value": 1.5}}})
    expected = {"name": "digits-run", "seed": 0, "estimates": {"rate": {"value": 1.5}}}
    assert Run(run.path).results == expected


@pytest.mark.parametrize(
    "ask", [lambda r: r.config, lambda r: r.metrics(), lambda r: r.results, lambda r: r.environment]
)
def test_what_is_no_run_directory_says_so(tmp_path, ask):
    with pytest.raises(RunDirectoryError, match="not a run directory: it does not exist"):
        ask(Run(tmp_path / "none"))
    with pytest.raises(RunDirectoryError, match=r"not a run directory: it holds no pipeline\.yaml"):
        ask(Run(tmp_path))


def test_opening_refuses_files_full_folders_and_unwritable_ones(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunDirectoryError, match="found a file"):
        Run.open(tmp_path / "file", toy_config())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(RunDirectoryError, match=r"not empty.*--resume"):
        Run.open(tmp_path / "full", toy_config())
    with pytest.raises(RunDirectoryError, match="cannot be made"):
        Run(tmp_path / "file" / "below").begin(toy_config())
    (tmp_path / "empty").mkdir()
    Run.open(tmp_path / "empty", toy_config()).begin(toy_config())
    assert (tmp_path / "empty" / "pipeline.yaml").exists()


def test_of_two_runs_started_at_once_one_gets_the_directory(tmp_path, monkeypatch):
    config = toy_config()
    first, second = Run.open(tmp_path / "run", config), Run.open(tmp_path / "run", config)
    first.begin(config)
    # The second has looked before the first began.
    monkeypatch.setattr(Run, "open", classmethod(lambda cls, path, config, resume=False: cls(path)))
    with pytest.raises(RunDirectoryError, match="another run has just started"):
        second.begin(config)


def test_metrics_leave_out_a_cut_row_and_report_a_damaged_one(tmp_path):
    run = Run(tmp_path)
    run.begin(toy_config())
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"ste')
    assert run.metrics() == [{"step": 1}, {"step": 2}]
    path.write_text('{"step": 1}\nxx\n{"step": 2}\n')
    with pytest.raises(RunDirectoryError, match="row 2: damaged"):
        run.metrics()


@pytest.mark.parametrize(("rows", "kept"), [(0, 0), (1, 1), (2, 2), (5, 2)])
def test_resuming_drops_rows_that_the_checkpoint_does_not_know(tmp_path, rows, kept):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"ste')
    metrics = MetricsFile(path, rows)
    metrics.append({"step": 9})
    metrics.close()
    steps = [json.loads(line)["step"] for line in path.read_text().splitlines()]
    assert steps == [*[1, 2][:kept], 9]
    assert metrics.rows == kept + 1


def test_the_fingerprint_ignores_what_a_resumed_run_may_change():
    same = fingerprint(toy_config())
    assert fingerprint(toy_config(epochs=9, checkpoint_every_steps=3)) == same
    assert fingerprint(toy_config(polyak=0.5)) != same
    assert fingerprint(toy_config(seed=1)) != same
