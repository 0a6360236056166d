"""The examples: every pipeline of the paper is valid, builds and trains; the loop of one's own runs."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from uncollapse import Pipeline
from uncollapse.config.load import load_config
from uncollapse_mae import MutualDivergenceConfig

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
PIPELINES = sorted((EXAMPLES / "mae").glob("*.yaml"))
PENALIZED = {"mnist", "mnist-small", "omniglot"}

# The same parts and the same wiring, at sizes that train in seconds.
TINY = (
    "data.batch_size=8",
    "data.limit=24",
    "data.validation=16",
    "data.test_draws=1",
    "data.download=false",
    "model.posterior.latent_dim=3",
    "training.epochs=1",
    "training.initialize_examples=16",
    "training.device=cpu",
    "evaluation.examples=16",
    "evaluation.code_samples=2",
    "evaluation.probes=[]",
    "evaluation.estimators=[{type: elbo}, {type: nll, samples: 4}, {type: mutual_posterior_divergence}]",
)


def ids(path: Path) -> str:
    return path.stem


def test_there_are_pipelines() -> None:
    assert {p.stem for p in PIPELINES} == {*PENALIZED, "mnist-small-vae", "resnet-vae", "vlae", "vlae-free-bits"}


@pytest.mark.parametrize("path", PIPELINES, ids=ids)
def test_is_valid(path: Path) -> None:
    config = load_config(path)
    kinds = [type(r) for r in config.regularizers]
    assert kinds == ([MutualDivergenceConfig] if path.stem in PENALIZED else [])
    assert path.read_text().startswith("# ")


def test_names_differ() -> None:
    names = [load_config(path).name for path in PIPELINES]
    assert len(set(names)) == len(names)


def test_small_pipelines_differ_in_the_penalty_only() -> None:
    mae, vae = (load_config(EXAMPLES / "mae" / f"mnist-small{suffix}.yaml") for suffix in ("", "-vae"))
    assert mae.model_copy(update={"name": vae.name, "regularizers": ()}) == vae


@pytest.mark.parametrize("path", PIPELINES, ids=ids)
def test_trains(path: Path, tmp_path: Path, shared_data: Path) -> None:
    overrides = [*TINY, f"data.root={shared_data}"]
    if path.stem.startswith("mnist-small"):
        overrides += ["model.encoder.hidden=[16]"]
    else:
        overrides += ["model.encoder.widths=[4, 4, 4]", "model.encoder.features=16", "model.prior.blocks=1"]
    if path.stem == "omniglot":
        overrides += ["data.root=" + str(shared_data / "omniglot"), "data.files=[images_background_small1]"]
        overrides += ["data.test=16"]
    if path.stem == "resnet-vae":
        overrides += ["model.decoder.widths=[4, 4, 4]"]
    else:
        overrides += ["model.decoder.channels=4", "model.decoder.kernels=[7, 5, 3]"]
    run = Pipeline.from_yaml(path, overrides).fit(tmp_path / "run", quiet=True)
    assert run.results is not None
    assert {"elbo", "nll", "mutual_posterior_divergence"} <= set(run.results["estimates"])
    assert run.results["skipped"] == {}
    rows = [row for row in run.metrics() if row["split"] == "train"]
    logged = "mae.mutual_divergence/diverse" in rows[-1]
    assert logged == (path.stem in PENALIZED)


def test_own_loop() -> None:
    runs = runpy.run_path(str(EXAMPLES / "own_loop.py"))["main"]()
    assert runs["mae"]["mutual_posterior_divergence"] > 1.2 * runs["vae"]["mutual_posterior_divergence"]
    assert runs["mae"]["rate"] > runs["vae"]["rate"]
