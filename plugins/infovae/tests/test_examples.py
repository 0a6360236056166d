"""The examples: every pipeline is valid, and at small sizes trains, is measured and samples."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from uncollapse import Pipeline
from uncollapse.cli import main
from uncollapse.config.load import load_config
from uncollapse.config.pipeline import PipelineConfig

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "infovae"
PIPELINES = {path.stem: path for path in sorted(EXAMPLES.glob("*.yaml"))}
ROWS = ("elbo", "mmd", "stein", "adversarial", "unregularized")
COLOUR = ("elbo", "mmd", "stein", "unregularized")
SCRIPTS = ("released-mmd-vae", "released-mmd-vae-eval")

SIZES = (
    "training.epochs=1",
    "training.device=cpu",
    "training.initialize_examples=16",
    "evaluation.examples=24",
    "evaluation.probes=[]",
    "model.encoder.channels=[4, 4]",
)
GREY = (
    "data.batch_size=16",
    "data.limit=48",
    "data.validation=16",
    "data.download=false",
    "evaluation.estimators=[{type: elbo}, {type: infovae.mmd}, {type: infovae.log_determinant}, "
    "{type: infovae.class_mismatch, samples: 20, epochs: 1, hidden: [4]}]",
)


def config_of(name: str) -> PipelineConfig:
    return load_config(PIPELINES[name])


def ids(path: Path) -> str:
    return path.stem


def test_there_are_pipelines() -> None:
    expected = {f"mnist-{row}{size}" for row in ROWS for size in ("", "-small")}
    expected |= {f"cifar10-{row}" for row in COLOUR} | {"cifar10-elbo-small", "cifar10-mmd-small"}
    expected |= {f"{script}{size}" for script in SCRIPTS for size in ("", "-small")}
    assert set(PIPELINES) == expected


@pytest.mark.parametrize("path", PIPELINES.values(), ids=ids)
def test_is_valid(path: Path) -> None:
    assert load_config(path).name == f"infovae-{path.stem}"
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize("size", ["", "-small"])
def test_rows_differ_in_the_loss_only(size: str) -> None:
    def rest(name: str) -> dict[str, Any]:
        raw = config_of(name).model_dump(mode="json", exclude={"name", "objective", "regularizers"})
        # Only the unregularized model has to be sampled by the chain.
        estimators = [e for e in raw["evaluation"]["estimators"] if e["type"] != "infovae.class_mismatch"]
        return {**raw, "evaluation": {**raw["evaluation"], "estimators": estimators}}

    for row in ROWS[1:]:
        assert rest(f"mnist-{row}{size}") == rest(f"mnist-elbo{size}")
        config = config_of(f"mnist-{row}{size}")
        assert config.objective.type == "reconstruction"
        assert [r.type for r in config.regularizers] == ([] if row == "unregularized" else [f"infovae.{row}"])


def test_the_released_scripts_weights_in_nats() -> None:
    """Weights of 1 and 50 beside means over 784 pixels."""
    for script, per_pixel, latent in (("mmd-vae", 1, 20), ("mmd-vae-eval", 50, 5)):
        config = config_of(f"released-{script}")
        (mmd,) = config.regularizers
        assert mmd.weight == per_pixel * 784
        assert (mmd.bandwidth, mmd.statistic, mmd.prior_samples) == ("released", "v", config.data.batch_size)
        assert config.model.posterior.latent_shape == (latent,)
        steps = config.training.epochs * 50_000 // config.data.batch_size
        assert steps == {"mmd-vae": 10_000, "mmd-vae-eval": 100_000}[script]


def decoder_sizes(name: str) -> list[str]:
    if name.startswith("released"):
        return ["model.decoder.channels=[4, 4]", "model.decoder.hidden=[8]", "model.encoder.hidden=[8]"]
    return ["model.decoder.kernels=[5, 3]", "model.decoder.channels=4"]


@pytest.mark.parametrize("name", [f"mnist-{row}" for row in ROWS] + list(SCRIPTS))
def test_trains_and_is_measured(name: str, tmp_path: Path, shared_data: Path) -> None:
    changes = [*SIZES, *GREY, f"data.root={shared_data}", *decoder_sizes(name)]
    changes += ["regularizers.0.hidden=[8]"] if name == "mnist-adversarial" else []
    run = Pipeline.from_yaml(PIPELINES[name], changes).fit(tmp_path / "run", quiet=True)
    assert run.results is not None
    assert run.results["skipped"] == {}
    assert {"elbo", "mmd", "log_determinant", "class_mismatch"} <= set(run.results["estimates"])
    logged = [row for row in run.metrics() if row["split"] == "train"][-1]
    expected = {
        "mnist-mmd": {"infovae.mmd/mmd"},
        "mnist-stein": {"infovae.stein/stein_discrepancy", "infovae.stein/surrogate"},
        "mnist-adversarial": {"infovae.adversarial/jensen_shannon", "infovae.adversarial/adversary_loss"},
    }
    assert expected.get(name, set()) <= set(logged)


def test_command_line_samples_by_the_chain_from_data(
    tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    changes = [*SIZES, *GREY, f"data.root={shared_data}", *decoder_sizes("mnist"), "evaluation.estimators=[]"]
    Pipeline.from_yaml(PIPELINES["mnist-unregularized"], changes).fit(tmp_path / "run", quiet=True)
    sampler = "{type: infovae.markov_chain, start: data, burn_in: 2}"
    assert main(["sample", "run", "-n", "3", "-o", "x.npz", "--sampler", sampler]) == 0
    with np.load("x.npz") as arrays:
        assert arrays["x"].shape == (3, 1, 28, 28)
        assert set(np.unique(arrays["x"])) <= {0.0, 1.0}


@pytest.fixture(scope="module")
def colour_images(tmp_path_factory: pytest.TempPathFactory, full_data: Path) -> Path:
    """Return a folder with 6 training and 2 test images of each class of CIFAR-10."""
    folder = tmp_path_factory.mktemp("cifar10-jpeg")
    with tarfile.open(full_data / "cifar10-jpeg" / "cifar10-jpeg-6000.tar") as archive:
        for member in archive:
            number = int(Path(member.name).stem) if member.isfile() else 0
            if number < (6 if member.name.startswith("train") else 2):
                archive.extract(member, folder, filter="data")
    return folder


@pytest.mark.parametrize("name", ["cifar10-mmd", "cifar10-elbo-small"])
def test_colour_trains(name: str, tmp_path: Path, colour_images: Path) -> None:
    changes = [
        *SIZES,
        f"data={{type: image_folder, root: '{colour_images}', values: bytes, batch_size: 8, limit: 24, validation: 16}}",
        "model.decoder.levels=2",
        "model.decoder.blocks=1",
        "model.decoder.filters=4",
        "model.decoder.maps=2",
        "model.decoder.likelihood.mixtures=2",
    ]
    run = Pipeline.from_yaml(PIPELINES[name], changes).fit(tmp_path / "run", quiet=True)
    assert run.results is not None
    assert run.results["skipped"] == {}
    assert {"elbo", "mmd", "log_determinant"} <= set(run.results["estimates"])
