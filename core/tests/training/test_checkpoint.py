from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import resource
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from training_toys import toy_config, toy_trainer
from uncollapse.errors import CheckpointError, RunDirectoryError
from uncollapse.training import Run, checkpoint
from uncollapse.training.checkpoint import CheckpointStore, load_weights
from uncollapse.training.records import MetricsFile, Records


@pytest.fixture
def store(tmp_path):
    store = CheckpointStore(tmp_path / "checkpoints")
    save(store, 1, best=True)
    save(store, 2)
    return store


def save(store, step, best=False, **weights):
    state = {"numbers": [step, 0.5, None, "text"], "tensor": torch.arange(step)}
    weights = weights or {"weight": torch.full((3,), float(step))}
    return store.save(weights, None, state, {"step": step}, best=best)


def redescribe(path: Path, name: str, data: bytes) -> None:
    """Put other bytes in a file and make the description agree, as someone who means harm would."""
    (path / name).write_bytes(data)
    meta = json.loads((path / "meta.json").read_text())
    meta["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (path / "meta.json").write_text(json.dumps(meta))


def test_last_and_best_are_paths_and_older_ones_go(store):
    assert store.open("last").step == 2
    assert store.open("best").step == 1
    assert (store.folder / "last" / "model.safetensors").is_file()
    for step in (3, 4, 5):
        save(store, step, best=step == 4)
    assert (store.open("last").step, store.open("best").step) == (5, 4)
    assert sorted(p.name for p in store.folder.iterdir()) == ["best", "last", "step-00000004", "step-00000005"]
    assert store.open("best").weights()["weight"].tolist() == [4.0] * 3
    assert store.open("best").state()["numbers"] == [4, 0.5, None, "text"]


def test_the_same_step_can_be_saved_again(store):
    save(store, 2, best=True, weight=torch.tensor([9.0]))
    assert store.open("last").weights()["weight"].tolist() == [9.0]
    assert store.open("best").step == 2
    assert len([p for p in store.folder.iterdir() if not p.is_symlink()]) == 1


def test_a_missing_checkpoint_is_one_message(tmp_path, store):
    with pytest.raises(CheckpointError, match="no 'best' checkpoint yet"):
        CheckpointStore(tmp_path / "nothing").open("best")
    (store.folder / "best").unlink()
    with pytest.raises(CheckpointError, match="there is 'last'"):
        store.open("best")


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt", "meta.json"])
@pytest.mark.parametrize("keep", [0, 1, 10, -1])
def test_a_truncated_file_is_one_message_that_names_it(store, name, keep):
    path = store.folder / "last" / name
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=name):
        store.open("last").weights()


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt"])
def test_an_altered_or_missing_file_is_one_message_that_names_it(store, name):
    path = store.folder / "last" / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match=rf"{name}: altered"):
        store.open("last").weights()
    path.unlink()
    with pytest.raises(CheckpointError, match=rf"{name}: cannot be read"):
        store.open("last").weights()


class Harm:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("archive", [True, False])
def test_a_hostile_state_is_refused_and_nothing_in_it_runs(store, tmp_path, archive):
    victim = tmp_path / "harmed"
    if archive:
        torch.save({"optimizer": Harm(victim)}, tmp_path / "evil.pt")
        data = (tmp_path / "evil.pt").read_bytes()
    else:
        data = pickle.dumps({"optimizer": Harm(victim)})
    redescribe(store.folder / "last", "state.pt", data)
    with pytest.raises(CheckpointError, match=r"state\.pt: refused.*nothing in it was run"):
        store.open("last").state()
    assert not victim.exists()


def test_hostile_weights_are_refused(store, tmp_path):
    redescribe(store.folder / "last", "model.safetensors", pickle.dumps(Harm(tmp_path / "harmed")))
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        store.open("last").weights()
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("text", ["[]", "{}", '{"step": 1, "files": []}', "null", '{"step": "x", "files": {}}', "\xff"])
def test_a_damaged_description_is_one_message(store, text):
    (store.folder / "last" / "meta.json").write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"meta\.json: damaged"):
        store.open("last").weights()


def test_weights_of_another_pipeline_name_the_first_that_differ():
    with pytest.raises(CheckpointError, match=r"here: from another pipeline: weight has shape \(3, 2\).*\(4, 2\)"):
        load_weights(nn.Linear(2, 4, bias=False), nn.Linear(2, 3, bias=False).state_dict(), "here")
    with pytest.raises(CheckpointError, match=r"bias is missing from the checkpoint; other is unknown to the model"):
        load_weights(nn.Linear(1, 1), {"weight": torch.ones(1, 1), "other": torch.ones(1)}, "here")


def test_tied_weights_and_extra_state_survive(tmp_path):
    class Extra(nn.Linear):
        def get_extra_state(self):
            return {"calls": 3}

        def set_extra_state(self, state):
            self.calls = state["calls"]

    module = nn.Sequential(Extra(2, 2), nn.Linear(2, 2))
    module[1].weight = module[0].weight
    store = CheckpointStore(tmp_path)
    store.save(module.state_dict(), None, {}, {"step": 0}, best=True)
    other = nn.Sequential(Extra(2, 2), nn.Linear(2, 2))
    load_weights(other, store.open("last").weights(), "here")
    assert torch.equal(other[1].weight, module[0].weight)
    assert other[0].calls == 3


@pytest.mark.parametrize("at", range(6))
def test_a_full_disk_keeps_the_old_checkpoint_and_removes_what_was_begun(store, monkeypatch, at):
    """Every file, the rename and the link fail in turn."""
    calls = {"left": at}
    inner_write, inner_rename, inner_replace = checkpoint._write_synced, os.rename, os.replace

    def failing(inner):
        def write(*args):
            if calls["left"] == 0:
                if inner is inner_write:
                    args[0].write_bytes(args[1][: len(args[1]) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            calls["left"] -= 1
            return inner(*args)

        return write

    monkeypatch.setattr(checkpoint, "_write_synced", failing(inner_write))
    monkeypatch.setattr(os, "rename", failing(inner_rename))
    monkeypatch.setattr(os, "replace", failing(inner_replace))
    with pytest.raises(RunDirectoryError, match=r"step 3 .*no space left.* step [23] is intact.*--resume"):
        save(store, 3, best=True)
    monkeypatch.undo()
    # Three files, the rename, and the links `last` and `best`: only the last failure comes after `last` has moved.
    assert store.open("last").step == (3 if at == 5 else 2)
    assert store.open("best").step == 1
    store.open("best").weights()
    store.open("last").weights()
    links = {p.resolve().name for p in store.folder.iterdir() if p.is_symlink()}
    assert {p.name for p in store.folder.iterdir() if not p.is_symlink()} == links
    assert {p.name for p in store.folder.iterdir() if p.is_symlink()} == {"last", "best"}


def test_a_real_limit_on_file_size_is_reported_and_the_run_can_go_on(tmp_path, monkeypatch):
    # TensorBoard's writing thread would meet the limit too, and pytest counts what a thread raises as an error.
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    config = toy_config(epochs=4)
    trainer = toy_trainer(tmp_path / "run", config)
    inner = trainer.save
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def save_with_no_room(*, best=False):
        if trainer.state.epoch == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
        try:
            inner(best=best)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    trainer.save = save_with_no_room
    try:
        with pytest.raises(RunDirectoryError, match=r"step 24 cannot be written: no space left.*step 16 is intact"):
            trainer.fit()
    finally:
        signal.signal(signal.SIGXFSZ, before)
    assert not [p for p in (tmp_path / "run" / "checkpoints").iterdir() if p.name.startswith(".")]
    resumed, whole = toy_trainer(tmp_path / "run", config), toy_trainer(tmp_path / "whole", config)
    resumed.fit(resume=True)
    whole.fit()
    one, other = (t.run.checkpoints.open("last").weights() for t in (resumed, whole))
    assert all(torch.equal(one[name], other[name]) for name in other)


def test_a_full_disk_while_logging_is_reported(tmp_path, monkeypatch):
    metrics = MetricsFile(tmp_path / "metrics.jsonl")

    class Full:
        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    metrics.close()
    monkeypatch.setattr(metrics, "_file", Full())
    with pytest.raises(RunDirectoryError, match=r"metrics\.jsonl: cannot be written: No space left.*--resume"):
        metrics.append({"step": 1})


def test_tensorboards_trouble_hides_no_other(tmp_path, monkeypatch):
    class Full:
        def add_scalar(self, *args):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        close = add_scalar

    records = Records(tmp_path)
    monkeypatch.setattr(records, "_board", Full())
    with pytest.raises(RunDirectoryError, match=r"tensorboard: cannot be written: No space left.*--resume"):
        records.write({"step": 1, "split": "train", "loss": 1.0})
    records.close()
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 1


def test_a_copied_run_has_folders_for_links_and_goes_on(tmp_path):
    toy_trainer(tmp_path / "run", toy_config(epochs=2)).fit()
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    assert not (tmp_path / "copy" / "checkpoints" / "last").is_symlink()
    toy_trainer(tmp_path / "copy", toy_config(epochs=5)).fit(resume=True)
    toy_trainer(tmp_path / "run", toy_config(epochs=5)).fit(resume=True)
    for which in ("last", "best"):
        one, other = (Run(tmp_path / name).checkpoints.open(which) for name in ("run", "copy"))
        assert one.step == other.step
        assert all(torch.equal(value, other.weights()[name]) for name, value in one.weights().items())
    names = {p.name for p in (tmp_path / "copy" / "checkpoints").iterdir() if not p.is_symlink()}
    assert len(names) <= 2


def test_a_link_that_a_kill_left_behind_is_mended(store):
    save(store, 3, best=True)
    (store.folder / "best").unlink()
    (store.folder / ".step-00000009-1").mkdir()
    (store.folder / "step-00000004").mkdir()
    store.repair()
    assert store.open("best").step == 3
    assert sorted(p.name for p in store.folder.iterdir()) == ["best", "last", "step-00000003"]


def test_a_checkpoint_whose_state_does_not_fit_is_one_message(tmp_path):
    config = toy_config()
    toy_trainer(tmp_path / "run", config).fit()
    last = tmp_path / "run" / "checkpoints" / "last"
    state = torch.load(last / "state.pt", weights_only=True)
    del state["generators"]
    torch.save(state, last / "state.pt")
    redescribe(last, "state.pt", (last / "state.pt").read_bytes())
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    with pytest.raises(CheckpointError, match="training state does not fit: KeyError: 'generators'"):
        toy_trainer(tmp_path / "run", config).fit(resume=True)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before
