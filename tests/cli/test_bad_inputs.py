"""Whatever a user gets wrong ends in one message: where, what was found, what is allowed, and the likely fix.

Every row is a command line that must fail with exactly this message on stderr and nothing else: no traceback. The
folder of runs must be afterwards what it was before, except where a row says what is left: what can be resumed.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import pickle
import signal
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_fixtures import PARTS, points_of
from uncollapse.cli import main
from uncollapse.config.pipeline import TrainingConfig
from uncollapse.plugins import registry
from uncollapse.plugins.manager import DISABLE
from uncollapse.protocols import Progress

Prepare = Callable[[Path, pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Row:
    """A command line that must fail.

    Args:
        name: What is wrong.
        argv: The command line; ``train p.yaml --quiet`` and overrides where it is a tuple of ``path=value``.
        message: What stderr must say after ``error: ``; ``{here}`` stands for the current folder.
        prepare: Makes the circumstances.
        code: Exit code.
        left: What ``runs`` holds afterwards, by patterns that must all match something; None where nothing changes.
    """

    name: str
    argv: str | tuple[str, ...]
    message: str
    prepare: Prepare | None = None
    code: int = 2
    left: tuple[str, ...] | None = None

    def command(self) -> list[str]:
        if isinstance(self.argv, str):
            return self.argv.split(" ")
        return ["train", "p.yaml", "--quiet", *(part for override in self.argv for part in ("--set", override))]


def wrong(path_and_problem: str) -> str:
    return f"p.yaml: 1 error\n  {path_and_problem}"


def write(name: str, content: str | bytes) -> Prepare:
    def prepare(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return prepare


def arrays(**values: np.ndarray) -> Prepare:
    return lambda folder, monkeypatch: np.savez(folder / "d.npz", **values)


# ------------------------------------------------------------------------------------------------ the pipeline itself

TRAINING_FIELDS = ", ".join(TrainingConfig.model_fields)
# Lists of what is installed are filled in when a row is tried.
DATA = "{data}"

CONFIG = [
    Row(
        "unknown type of data",
        ("data.type=digit",),
        wrong(f"data: unknown data type 'digit', did you mean 'digits'?; installed: {DATA}"),
    ),
    Row(
        "a component of another kind",
        ("model.prior=gausian",),
        wrong("model.prior: unknown prior type 'gausian', did you mean 'gaussian_mixture'?; installed: {prior}"),
    ),
    Row(
        "a misspelt field of a section",
        ("training.epoch=3",),
        wrong(f"training.epoch: unknown field, did you mean 'epochs'?; allowed: {TRAINING_FIELDS}"),
    ),
    Row(
        "a misspelt field of a component",
        ("model.encoder.hiden=[3]",),
        wrong("model.encoder.hiden: unknown field, did you mean 'hidden'?; allowed: type, hidden, activation"),
    ),
    Row(
        "a misspelt field of a section in a component",
        ("objective.free_bits={nat: 1}",),
        "p.yaml: 2 errors\n  objective.free_bits.nats: required, but missing\n"
        "  objective.free_bits.nat: unknown field, did you mean 'nats'?; allowed: nats, variant",
    ),
    Row(
        "a negative weight",
        ("objective.rate_weight=-1",),
        wrong("objective.rate_weight: value: expected a weight of at least 0, found -1"),
    ),
    Row(
        "a negative end of a schedule",
        ("objective.rate_weight={type: linear, until_epoch: 1, end: -0.5}",),
        wrong("objective.rate_weight: end: expected a weight of at least 0, found -0.5"),
    ),
    Row(
        "negative free bits",
        ("objective.free_bits={nats: -1}",),
        wrong("objective.free_bits.nats: expected greater than or equal to 0, found -1"),
    ),
    Row(
        "a word for a number",
        ("training.epochs=many",),
        wrong("training.epochs: expected a valid integer, unable to parse string as an integer, found 'many'"),
    ),
    Row("no epochs", ("training.epochs=0",), wrong("training.epochs: expected greater than 0, found 0")),
    Row("a rate of NaN", ("training.optimizer.lr=.nan",), wrong("training.optimizer.lr: expected a finite number, found nan")),
    Row("a negative rate", ("training.optimizer.lr=-1",), wrong("training.optimizer.lr: expected greater than 0, found -1")),
    Row("too slow an average", ("training.polyak=1.5",), wrong("training.polyak: expected less than 1, found 1.5")),
    Row("no batch", ("data.batch_size=0",), wrong("data.batch_size: expected greater than or equal to 1, found 0")),
    Row("a negative seed", ("seed=-1",), wrong("seed: expected greater than or equal to 0, found -1")),
    Row(
        "a name that is a path",
        ("name=../x",),
        wrong("name: a name has letters, digits, '.', '_' and '-' only and starts with one, found '../x'"),
    ),
    Row(
        "no layers",
        ("model.encoder.hidden=[]",),
        wrong("model.encoder.hidden: expected at least 1 of them, found []"),
    ),
    Row(
        "a layer of negative width",
        ("model.encoder.hidden=[8, -2]",),
        wrong("model.encoder.hidden.1: expected greater than 0, found -2"),
    ),
    Row(
        "no latent dimension",
        ("model.posterior={type: gaussian}",),
        wrong("model.posterior.latent_dim: required, but missing"),
    ),
    Row(
        "a number for a component",
        ("data=3",),
        wrong(f"data: expected a mapping with 'type' (one of: {DATA}), found 3 (int)"),
    ),
    Row("a component without a type", ("data={batch_size: 3}",), wrong(f"data: 'type' is missing; allowed: {DATA}")),
    Row("one regularizer for a list", ("regularizers=3",), wrong("regularizers: expected a list, found 3")),
    Row(
        "an unknown choice",
        ("data.binarize=sometimes",),
        wrong("data.binarize: expected 'none', 'dynamic', 'static' or 'threshold', found 'sometimes'"),
    ),
    Row(
        "draws that would be equal",
        ("data.test_draws=5",),
        wrong(
            "data: test_draws: 5 draws of the test set would be equal with binarize: threshold; use binarize: dynamic or "
            "static, or test_draws: 1"
        ),
    ),
    Row(
        "a schedule longer than the run",
        ("objective.rate_weight={type: linear, until_epoch: 5}",),
        wrong(
            "objective.rate_weight: the schedule reaches its end after 5 epochs, but training.epochs is 2, so the final "
            "value is never used; shorten the schedule or train longer"
        ),
    ),
    Row(
        "several things at once",
        ("training.epochs=0", "data.limit=-1"),
        "p.yaml: 2 errors\n  data.limit: expected greater than 0, found -1\n"
        "  training.epochs: expected greater than 0, found 0",
    ),
]  # fmt: skip

OVERRIDES = [
    Row(
        "an unknown path",
        ("model.encoder.width=3",),
        wrong("model.encoder.width: unknown field; allowed: type, hidden, activation"),
    ),
    Row(
        "an unknown section",
        ("nonsense=3",),
        wrong(
            "nonsense: unknown field; allowed: name, description, seed, data, model, objective, regularizers, training, "
            "evaluation"
        ),
    ),
    Row("no value", ("training.epochs",), "--set training.epochs: expected path=value, training.epochs=10 say"),
    Row("no path", ("=3",), "--set =3: expected path=value, training.epochs=10 say"),
    Row("half a list", ("seed=[1",), "--set seed=[1: the value is not valid YAML; quote it"),
    Row("a field of a word", ("name.x=3",), "--set name.x=3: name is 'tiny', which has no field 'x'"),
    Row(
        "a place that a list has not",
        ("evaluation.estimators.3.samples=2",),
        "--set evaluation.estimators.3.samples=2: evaluation.estimators has 1 entries, 0 to 0; '3' is none of them",
    ),
    Row(
        "an empty name",
        "train p.yaml --name ",
        wrong("name: a name has letters, digits, '.', '_' and '-' only and starts with one, found ''"),
    ),
]

FILES = [
    Row("no file", "train none.yaml", "none.yaml: no such file; in that folder: p.yaml"),
    Row("a folder", "train .", ".: cannot be read as a pipeline: Is a directory"),
    Row(
        "half a file",
        "train q.yaml",
        "q.yaml: not valid YAML at line 1, column 9: expected ',' or ']', but got '<stream end>'",
        write("q.yaml", "name: [x"),
    ),
    Row(
        "a key twice",
        "train q.yaml",
        "q.yaml: not valid YAML at line 2, column 1: the key 'name' is given twice",
        write("q.yaml", "name: x\nname: y\n"),
    ),
    Row(
        "Python in YAML",
        "train q.yaml",
        "q.yaml: not valid YAML at line 1, column 7: could not determine a constructor for the tag "
        "'tag:yaml.org,2002:python/object/apply:os.system'",
        write("q.yaml", "name: !!python/object/apply:os.system [touch owned]"),
    ),
    Row("a list", "train q.yaml", "q.yaml: expected a mapping with name, data, model …, found list", write("q.yaml", "- a")),
    Row("nothing", "train q.yaml", "q.yaml: expected a mapping with name, data, model …, found NoneType", write("q.yaml", "")),
    Row("bytes", "train q.yaml", "q.yaml: cannot be read as a pipeline: not UTF-8 text", write("q.yaml", b"\xff\xfe\x00x")),
    Row(
        "no model",
        "train q.yaml",
        "q.yaml: 1 error\n  model: required, but missing",
        write("q.yaml", "name: x\ndata: digits\n"),
    ),
]  # fmt: skip

# ------------------------------------------------------------------------------------------------- data, shapes, extras

VECTORS = arrays(x=np.linspace(-1, 1, 300).reshape(60, 5))
ARRAYS = "data={type: arrays, path: d.npz}"


def without_torchvision(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("uncollapse_images.data.torchvision_compat.find_spec", lambda name: None)


def with_torchvision(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("PIL", reason="needs the extra 'vision'")


def without_cuda(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


class Hostile:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (os.system, ("touch owned",))


DATA_AND_SHAPES = [
    Row(
        "data outside the likelihood's support",
        (ARRAYS,),
        "model.decoder.likelihood: 'bernoulli' models data whose support is binary or unit_interval, but data 'arrays' "
        "are real; choose another likelihood, or change how the data are prepared (data.binarize)",
        VECTORS,
    ),
    Row(
        "data outside the support that they declare",
        ("data={type: arrays, path: d.npz, support: unit_interval}",),
        "data.path: 4 of 40 values of the train set are outside the support 'unit_interval', such as 255 in example 6; "
        "allowed: 0 to 1; divide by 255, or declare support: bytes",
        arrays(x=np.array([[0.0, 1.0]] * 18 + [[255.0, 2.0]] * 2)[np.r_[0:6, 18, 6:18, 19]]),
    ),
    Row(
        "data that are not finite",
        (ARRAYS,),
        "data.path: 1 of 6 values of the train set are not finite, such as nan in example 1; remove or replace them",
        arrays(x=np.array([[0.0, 1.0], [np.nan, 0.0], [2.0, 3.0]])),
    ),
    Row(
        "no data",
        ("data={type: mnist, root: here}",),
        "data.root: MNIST is not in {here}/here/MNIST/raw: the file train-images-idx3-ubyte is missing; set "
        "data.download: true to fetch it, or point data.root at the folder that holds it",
        with_torchvision,
    ),
    Row(
        "no file of arrays",
        ("data={type: arrays, path: none.npz}",),
        "data.path: there is no file {here}/none.npz; save one with numpy.savez(path, x=..., y=...)",
    ),
    Row(
        "a pickle for data",
        (ARRAYS,),
        "data.path: d.npz holds Python objects (a pickle), which are never loaded because they can run code; save arrays "
        "of numbers with numpy.savez",
        write("d.npz", pickle.dumps(Hostile())),
    ),
    Row(
        "half a file of arrays",
        (ARRAYS,),
        "data.path: d.npz cannot be read, it is truncated or of another format (BadZipFile: File is not a zip file); get "
        "it again",
        write("d.npz", b"PK\x03\x04 and no more"),
    ),
    Row(
        "more examples than there are",
        ("data.limit=5000",),
        "data.limit: 5000 training examples were asked for, there are 1297; use at most 1297 or leave limit out",
    ),
    Row(
        "a larger validation set than there is data",
        ("data.validation=3000",),
        "data.validation: 3000 examples cannot be held out for validation, there are 1497; use 1 to 1496",
    ),
    Row(
        "a missing extra",
        ("data={type: mnist}",),
        "data.type: mnist needs the package 'torchvision', which is not installed. Install it with: pip install "
        "'uncollapse[images]'",
        without_torchvision,
    ),
    Row(
        "a latent shape that the encoder does not give",
        ("model.posterior.latent_dim=[4, 2, 2]",),
        "model.posterior.latent_dim: a latent of shape (4, 2, 2) needs encoder features of shape (8, 2, 2), found (8,); "
        "change the encoder's output or use a flat latent",
    ),
    Row(
        "convolutions of vectors",
        (ARRAYS, "model.encoder={type: conv}", "model.decoder.likelihood=gaussian"),
        "model.encoder: convolutions need images of shape (C, H, W), but the data have event shape (5,); use the type "
        "'mlp', or data of images",
        VECTORS,
    ),
    Row(
        "a decoder of images for vectors",
        ("data={type: arrays, path: d.npz, support: binary}", "model.decoder={type: pixelcnn}"),
        "model.decoder: a pixelcnn decodes images of shape (C, H, W), found data of shape (2,); use data of images, or a "
        "decoder for vectors such as mlp",
        arrays(x=np.ones((20, 2))),
    ),
    Row(
        "channels that likelihood and network both couple",
        (
            "data={type: arrays, path: d.npz, support: bytes}",
            "model.decoder={type: gated_pixelcnn, channel_order: ascending, likelihood: logistic_mixture}",
        ),
        "model.decoder.channel_order: LogisticMixtureLikelihood couples the channels of a pixel itself, so they cannot be "
        "drawn one after the other; use channel_order: joint, or a likelihood whose channels are independent (bernoulli, "
        "categorical, gaussian, logistic)",
        arrays(x=np.ones((20, 3, 4, 4))),
    ),
    Row(
        "layers too narrow for the channels of the data",
        (
            "data={type: arrays, path: d.npz, support: binary}",
            "model.decoder={type: pixelcnn, channel_order: descending, channels: 4, hidden: 2}",
        ),
        "model.decoder: with a channel_order every layer has a group of features for each of the data's 3 channels, found a "
        "layer of 2; use wider layers (channels, hidden), or channel_order: joint",
        arrays(x=np.ones((20, 3, 4, 4))),
    ),
    Row(
        "long skips between two layers",
        ("model.decoder={type: pixelcnn, kernels: [3, 3], long_skips: true}",),
        "p.yaml: 1 error\n  model.decoder: long_skips lead from a layer to the third one after it, found 2 kernels; give at "
        "least 3, or turn long_skips off",
    ),
    Row(
        "probes without labels",
        (ARRAYS, "model.decoder.likelihood=gaussian", "evaluation.probes=[knn]"),
        "evaluation.probes: found knn, but the data have no labels; remove the probes or choose data with labels",
        VECTORS,
    ),
    Row(
        "a device that is not here",
        ("training.device=cuda",),
        "training.device: 'cuda' is not available here; available: auto, cpu",
        without_cuda,
    ),
]

# ------------------------------------------------------------------------------------------------------------- plugins


def plugin(name: str, source: str) -> Prepare:
    def prepare(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "strange_plugin.py").write_text(source)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(__import__("sys").modules, "strange_plugin", raising=False)
        point = EntryPoint(name=name, value="strange_plugin", group="uncollapse")
        monkeypatch.setattr("uncollapse.plugins.manager.entry_points", lambda group: [point])

    return prepare


def switched_off(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin("strange", "uncollapse_api_version = 1")(folder, monkeypatch)
    monkeypatch.setenv(DISABLE, "strange")


USES_STRANGE = ("regularizers=[strange.penalty]",)
PLUGINS = [
    Row(
        "a plugin that raises on import",
        USES_STRANGE,
        wrong(
            "regularizers.0: unknown regularizer type 'strange.penalty'; installed: none (plugin 'strange' is broken: "
            "importing strange_plugin raised ZeroDivisionError: division by zero)"
        ),
        plugin("strange", "1 / 0"),
    ),
    Row(
        "a plugin for another version of the API",
        USES_STRANGE,
        wrong(
            "regularizers.0: unknown regularizer type 'strange.penalty'; installed: none (plugin 'strange' is broken: it "
            "targets plugin API 7, this uncollapse offers 1; update uncollapse, or install an older version of the plugin)"
        ),
        plugin("strange", "uncollapse_api_version = 7"),
    ),
    Row(
        "a plugin that is switched off",
        USES_STRANGE,
        wrong(
            "regularizers.0: unknown regularizer type 'strange.penalty'; installed: none (plugin 'strange' is switched off by "
            "UNCOLLAPSE_DISABLE_PLUGINS)"
        ),
        switched_off,
    ),
    Row(
        "showing what is not installed",
        "plugins show mlpp",
        "no installed component is named 'mlpp', did you mean 'mlp'?; `uncollapse plugins` lists all",
    ),
    Row(
        "showing what two kinds share",
        "plugins show gaussian",
        "several kinds of component are named 'gaussian'; say which: posterior:gaussian, likelihood:gaussian",
    ),
]

# -------------------------------------------------------------------------------------------- runs and their checkpoints


def altered(name: str, change: Callable[[bytes], bytes], *, forged: bool = False) -> Prepare:
    """Change a file of the run; ``forged`` also changes what the checkpoint says of it."""

    def prepare(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = folder / "runs" / "tiny" / name
        path.write_bytes(change(path.read_bytes()))
        if forged:
            meta = json.loads((path.parent / "meta.json").read_text())
            data = path.read_bytes()
            meta["files"][path.name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            (path.parent / "meta.json").write_text(json.dumps(meta))

    return prepare


def hostile_state(_: bytes) -> bytes:
    buffer = io.BytesIO()
    torch.save({"progress": Hostile()}, buffer)
    return buffer.getvalue()


def without_checkpoints(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "runs/tiny/checkpoints").rename(folder / "elsewhere")


LAST = "runs/tiny/checkpoints/last"
RESUME = "train p.yaml --quiet --resume"
FINISHED = [
    Row(
        "a run that is there already",
        "train p.yaml",
        "runs/tiny exists and is not empty; nothing was changed. Resume that run with --resume, or give this one another "
        "name or folder",
    ),
    Row(
        "resuming another pipeline",
        f"{RESUME} --set model.encoder.hidden=[9]",
        "runs/tiny holds a run of another pipeline: model.encoder.hidden.0 was 8, now 9. Resume it with its own pipeline "
        "(runs/tiny/pipeline.yaml), or give this one another name",
    ),
    Row(
        "a truncated checkpoint",
        RESUME,
        f"{LAST}/model.safetensors: truncated or altered: 100 bytes, 5256 were written",
        altered("checkpoints/last/model.safetensors", lambda data: data[:100]),
    ),
    Row(
        "a checkpoint with one wrong bit",
        "sample runs/tiny --checkpoint last",
        f"{LAST}/model.safetensors: altered since it was written (its SHA-256 differs from that in meta.json)",
        altered("checkpoints/last/model.safetensors", lambda data: data[:-1] + bytes([data[-1] ^ 1])),
    ),
    Row(
        "weights that are none",
        "sample runs/tiny --checkpoint last",
        f"{LAST}/model.safetensors: not a safetensors file: Error while deserializing: header too small",
        altered("checkpoints/last/model.safetensors", lambda data: b"nothing", forged=True),
    ),
    Row(
        "a hostile checkpoint",
        RESUME,
        f"{LAST}/state.pt: refused, because it is damaged or holds something other than tensors and plain values "
        "(nothing in it was run): Trying to load unsupported GLOBAL posix.system whose module posix is blocked",
        altered("checkpoints/last/state.pt", hostile_state, forged=True),
    ),
    Row(
        "a hostile pickle for a checkpoint",
        "evaluate runs/tiny --checkpoint last",
        f"{LAST}/state.pt: refused, because it is damaged or holds something other than tensors and plain values "
        "(nothing in it was run): Unsupported operand 149",
        altered("checkpoints/last/state.pt", lambda _: pickle.dumps(Hostile(), protocol=4), forged=True),
    ),
    Row(
        "a checkpoint without a description",
        "sample runs/tiny --checkpoint last",
        f"{LAST}/meta.json: damaged: expected step and files, found []",
        altered("checkpoints/last/meta.json", lambda _: b"[]"),
    ),
    Row(
        "no checkpoint",
        "sample runs/tiny",
        "runs/tiny/checkpoints/best: there is no 'best' checkpoint yet",
        without_checkpoints,
    ),
    Row(
        "a checkpoint of another model",
        "evaluate runs/tiny",
        "runs/tiny/checkpoints/best: from another pipeline: encoder.net.0.weight has shape (8, 64) in the checkpoint, "
        "(9, 64) in the model; encoder.net.0.bias has shape (8,) in the checkpoint, (9,) in the model; posterior.head.weight "
        "has shape (4, 8) in the checkpoint, (4, 9) in the model; and 3 more",
        altered("pipeline.yaml", lambda data: data.replace(b"- 8", b"- 9")),
    ),
    Row(
        "a run of a plugin that has gone",
        "evaluate runs/tiny",
        "runs/tiny/pipeline.yaml: 1 error\n  model.encoder: unknown encoder type 'gone.mlp', did you mean 'mlp'?; "
        "installed: {encoder} (no plugin 'gone' is installed; its distribution is usually called uncollapse-gone)",
        altered("pipeline.yaml", lambda data: data.replace(b"type: mlp", b"type: gone.mlp", 1)),
    ),
    Row(
        "damaged metrics",
        "report runs/tiny",
        "runs/tiny/metrics.jsonl, row 1: damaged: Expecting property name enclosed in double quotes: line 1 column 2 "
        "(char 1)",
        altered("metrics.jsonl", lambda _: b"{\n"),
    ),
    Row(
        "damaged results",
        "report runs/tiny",
        "runs/tiny/results.json: cannot be read: Expecting property name enclosed in double quotes: line 1 column 2 (char "
        "1)",
        altered("results.json", lambda _: b"{"),
    ),
    Row("a folder for a page", "report runs/tiny --output .", ". is a folder; a report needs the name of a file, report.html say"),
    Row(
        "another model for a trained run",
        "evaluate runs/tiny --set evaluation.batch_size=9 --set model.encoder.hidden=[3]",
        "--set model.encoder.hidden=[3]: a trained run can only change fields of evaluation; train another run for the "
        "rest",
    ),
    Row(
        "an unknown estimator",
        "evaluate runs/tiny --set evaluation.estimators=[nl]",
        "runs/tiny/pipeline.yaml: 1 error\n  evaluation.estimators.0: unknown estimator type 'nl', did you mean 'nll'?; "
        "installed: {estimator}",
    ),
    Row(
        "measuring on a device that is not here",
        "evaluate runs/tiny --device cuda",
        "--device: 'cuda' is not available here; available: auto, cpu",
        without_cuda,
    ),
    Row(
        "an unknown sampler",
        "sample runs/tiny --sampler ancestrl",
        "--sampler ancestrl: unknown sampler type 'ancestrl', did you mean 'ancestral'?; installed: {sampler}",
    ),
    Row(
        "a field that a sampler has not",
        "sample runs/tiny --sampler {type:\tancestral,mean:\t1}",
        "--sampler {type: ancestral,mean: 1}: mean: unknown field, did you mean 'means'?; allowed: type, means, max_batch",
    ),
    Row(
        "samples in an unknown format",
        "sample runs/tiny --output x.jpg",
        "--output x.jpg: expected a name that ends in .png, .txt or .npz, found '.jpg'",
    ),
]  # fmt: skip

NO_RUN = [
    Row("resuming nothing", RESUME, "runs/tiny: there is no run to resume here; start it without --resume"),
    Row("measuring nothing", "evaluate nowhere", "nowhere is not a run directory: it does not exist"),
    Row("sampling from a pipeline file", "sample p.yaml", "p.yaml is not a run directory: it holds no pipeline.yaml"),
    Row("a report on nothing", "report nowhere", "nowhere is not a run directory: it does not exist"),
    Row(
        "a file for a run",
        "train p.yaml --quiet --runs . --name q",
        "q: expected a folder, found a file; give the run another name",
        write("q", "x"),
    ),
    Row(
        "a file for the folder of runs",
        "train p.yaml --quiet --runs q",
        "q/tiny: cannot be made: Not a directory",
        write("q", "x"),
    ),
]


# ----------------------------------------------------------------------------------------- what goes wrong on the way


def full_disk(part: str) -> Prepare:
    """Let the disk be full for files whose path contains ``part``."""

    def prepare(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        real = os.fsync

        def fsync(handle: int) -> None:
            if part in os.readlink(f"/proc/self/fd/{handle}"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(handle)

        monkeypatch.setattr(os, "fsync", fsync)

    return prepare


def ctrl_c(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from uncollapse.objectives import ELBO

    call = ELBO.__call__

    def interrupted(self: ELBO, model: Any, batch: Any, progress: Progress) -> Any:
        if progress.step == 1 and not progress.final:
            signal.raise_signal(signal.SIGINT)
        return call(self, model, batch, progress)

    monkeypatch.setattr(ELBO, "__call__", interrupted)


def our_bug(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise LookupError("nobody expected this")

    monkeypatch.setattr("uncollapse.pipeline.Pipeline.fit", broken)


def out_of_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 PiB")

    monkeypatch.setattr("uncollapse.pipeline.Pipeline.fit", broken)


TINY = "runs/tiny"
ON_THE_WAY = [
    Row(
        "a disk that is full at the start",
        (),
        "runs/tiny/pipeline.yaml: cannot be written: No space left on device",
        full_disk("pipeline.yaml"),
        left=(),
    ),
    Row(
        "a disk that is full when a checkpoint is due",
        (),
        "runs/tiny/checkpoints: the checkpoint of step 2 cannot be written: no space left (No space left on device); "
        "there is no earlier one. Free some space and go on with: uncollapse train PIPELINE --resume",
        full_disk("checkpoints"),
        left=("pipeline.yaml", "environment.json", "metrics.jsonl"),
    ),
    Row(
        "a disk that is full when the metrics are",
        (),
        "runs/tiny/metrics.jsonl: cannot be written: No space left on device. The last checkpoint is intact; go on with: "
        "uncollapse train PIPELINE --resume",
        full_disk("metrics"),
        left=("pipeline.yaml", "environment.json", "metrics.jsonl"),
    ),
    Row(
        "a disk that is full after training",
        (),
        "runs/tiny/results.json: cannot be written: No space left on device",
        full_disk("results"),
        left=("pipeline.yaml", "environment.json", "metrics.jsonl", "checkpoints/best", "checkpoints/last"),
    ),
    Row(
        "a disk that is full when the schema is written",
        "schema --output s.json",
        "s.json: cannot be written: No space left on device",
        full_disk("s.json"),
    ),
    Row(
        "Ctrl-C",
        ("training.epochs=4",),
        "stopped after 2 of 8 steps; everything is saved in runs/tiny. Go on with: uncollapse train PIPELINE --resume",
        ctrl_c,
        code=130,
        left=("pipeline.yaml", "environment.json", "metrics.jsonl", "checkpoints/last"),
    ),
    Row(
        "a loss that becomes NaN",
        ("training.optimizer.lr=1.0e+30",),
        "the training loss is nan at step 1, in batch 1 of epoch 0 (all counted from 0); not finite: distortion = nan, "
        "rate = inf. Likely causes are a learning rate that is too high (lower training.optimizer.lr or set "
        "training.gradient_clip), or an unbounded log-variance (set model.posterior.logvar_range)",
        left=("pipeline.yaml", "environment.json", "metrics.jsonl"),
    ),
    Row(
        "a GPU without memory left",
        (),
        "out of memory; lower data.batch_size, evaluation.batch_size or the size of the model",
        out_of_memory,
    ),
    Row(
        "a bug of ours",
        (),
        "LookupError: nobody expected this\nThis is a bug in uncollapse or in a plugin; run the command again with --debug "
        "to see where it comes from",
        our_bug,
        code=1,
    ),
]

ROWS = [
    *((row, "folder") for row in (*CONFIG, *OVERRIDES, *FILES, *DATA_AND_SHAPES, *PLUGINS, *NO_RUN, *ON_THE_WAY)),
    *((row, "finished") for row in FINISHED),
]


@pytest.fixture(autouse=True, scope="module")
def only_parts() -> Iterator[None]:
    """Leave the remedies out: what they add to lists and near matches is not this table's business."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        parts = points_of(*PARTS)
        monkeypatch.setattr("uncollapse.plugins.manager.entry_points", lambda group: parts)
        registry.cache_clear()
        yield
    registry.cache_clear()


def everything_in(folder: Path) -> dict[str, bytes | None]:
    runs = folder / "runs"
    return {str(p.relative_to(runs)): p.read_bytes() if p.is_file() else None for p in sorted(runs.rglob("*"))}


@pytest.mark.parametrize(("row", "place"), ROWS, ids=[row.name for row, _ in ROWS])
def test_a_bad_input_ends_in_one_message(
    row: Row,
    place: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here: Path = request.getfixturevalue(place)
    expected = row.message.replace("{here}", str(here))
    for kind in ("data", "prior", "encoder", "estimator", "sampler"):
        expected = expected.replace(f"{{{kind}}}", ", ".join(registry().names(kind)))
    if row in PLUGINS:
        request.getfixturevalue("fresh_registry")()
    if row.prepare is not None:
        row.prepare(here, monkeypatch)
    before = everything_in(here)
    capsys.readouterr()
    with warnings.catch_warnings():
        # A warning of a library would be a second message.
        warnings.simplefilter("error")
        code = main([part.replace("\t", " ") for part in row.command()])
    said = capsys.readouterr()
    assert said.err == f"error: {expected}\n"
    assert "Traceback" not in said.out
    assert code == row.code
    assert not (here / "owned").exists()
    if row.left is None:
        assert everything_in(here) == before
    else:
        for name in row.left:
            assert (here / TINY / name).exists()
        assert not list((here / TINY).rglob(".*"))


RESUMABLE = [row for row in ON_THE_WAY if row.left and row.name != "a loss that becomes NaN"]


@pytest.mark.parametrize("row", RESUMABLE, ids=[row.name for row in RESUMABLE])
def test_what_is_left_can_be_resumed(row: Row, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as circumstances:
        assert row.prepare is not None
        row.prepare(folder, circumstances)
        assert main(row.command()) == row.code
    assert main([*row.command(), "--resume"]) == 0
    assert (folder / TINY / "results.json").exists()


def test_a_start_on_a_full_disk_can_be_repeated(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as circumstances:
        full_disk("pipeline.yaml")(folder, circumstances)
        assert main(["train", "p.yaml", "--quiet"]) == 2
    assert main(["train", "p.yaml", "--quiet"]) == 0


@pytest.mark.parametrize("way", ["option", "environment"])
def test_the_traceback_is_there_for_those_who_ask(
    way: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["train", "p.yaml", "--set", "training.epochs=0"]
    if way == "option":
        argv.append("--debug")
    else:
        monkeypatch.setenv("UNCOLLAPSE_DEBUG", "1")
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert "Traceback (most recent call last)" in said
    assert said.endswith("error: p.yaml: 1 error\n  training.epochs: expected greater than 0, found 0\n")


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["trian"], "No such command 'trian'"),
        (["train"], "Missing argument 'PIPELINE'"),
        (["train", "p.yaml", "--sett", "x=3"], "No such option: --sett"),
        (["evaluate", "runs/tiny", "--split", "all"], "Invalid value for '--split'"),
        (["sample", "runs/tiny", "--count", "0"], "Invalid value for '--count'"),
    ],
)
def test_a_wrong_command_line_is_explained(
    argv: list[str], problem: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert problem in said
    assert "Traceback" not in said


def test_the_table_is_long_enough() -> None:
    assert len(ROWS) >= 40
    assert len({row.name for row, _ in ROWS}) == len(ROWS)
