"""The pipelines of the tables: what the script writes, valid, and every row can be built and trained."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from uncollapse import Pipeline
from uncollapse.config.load import load_config

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "duvae"
PIPELINES = sorted(EXAMPLES.glob("*/*.yaml"))


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_duvae", EXAMPLES / "write.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WRITE = script()


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def fields(name: str) -> dict[str, Any]:
    return load_config(EXAMPLES / f"{name}.yaml").model_dump(mode="json")


def test_files_are_what_the_script_writes() -> None:
    written = dict(WRITE.pipelines())
    assert sorted(written) == PIPELINES
    for path, content in written.items():
        assert path.read_text() == content, path


@pytest.mark.parametrize("path", PIPELINES, ids=name_of)
def test_is_valid(path: Path) -> None:
    assert load_config(path).name == f"duvae-{path.parent.name}-{path.stem}"


def test_every_row_of_every_table_is_there() -> None:
    def rows(folder: str) -> set[str]:
        return {path.stem for path in (EXAMPLES / folder).glob("*.yaml")}

    every = set(WRITE.ROWS)
    assert len(every) == 15
    assert rows("yahoo") == rows("yelp") == every - {"ae"}
    assert rows("omniglot") == rows("omniglot-small") == rows("yelp-small") == every
    assert len(rows("short-yelp")) == 11
    assert len(rows("synthetic")) == 4


@pytest.mark.parametrize(
    ("name", "gamma", "keep"),
    [
        ("yahoo/du-vae-5-9", 0.5, 0.9),
        ("yelp/du-vae-5-8", 0.5, 0.8),
        ("omniglot/du-vae-6-8", 0.6, 0.8),
        ("yahoo/du-iaf", 0.7, 0.7),
        ("yelp/du-iaf", 0.6, 0.7),
        ("omniglot/du-iaf", 0.5, 0.85),
    ],
)
def test_second_numbers_are_probabilities_to_keep(name: str, gamma: float, keep: float) -> None:
    """In tables 1 and 2; table 3 prints what is dropped."""
    norm, dropout = fields(name)["model"]["posterior"]["moments"]
    assert (norm["gamma"], dropout["keep"], dropout["from_epoch"]) == (gamma, keep, 10)


@pytest.mark.parametrize("folder", ["yahoo", "yelp", "omniglot"])
def test_rows_differ_in_the_model_s_remedy_only(folder: str) -> None:
    plain = fields(f"{folder}/vae")
    for row in ("fb", "delta-vae", "bn-vae", "mae", "du-vae-5-8", "iaf-bn", "du-iaf"):
        raw = fields(f"{folder}/{row}")
        assert (raw["data"], raw["training"]) == (plain["data"], plain["training"])
        assert raw["model"]["decoder"] == plain["model"]["decoder"]


@pytest.mark.parametrize("row", ["iaf-fb", "iaf-bn", "du-iaf"])
@pytest.mark.parametrize("folder", ["yahoo", "omniglot", "yelp-small"])
def test_flows_give_both_ends_to_probes_and_no_mutual_information(folder: str, row: str) -> None:
    evaluation = fields(f"{folder}/{row}")["evaluation"]
    assert evaluation["codes"] == "base_and_end"
    assert "mutual_information" not in {item["type"] for item in evaluation["estimators"]}
    assert "mutual_information" in {item["type"] for item in fields(f"{folder}/vae")["evaluation"]["estimators"]}


def test_brackets_of_table_1() -> None:
    for folder, beta, free, gamma, eta in (
        ("yahoo", 0.4, 0.15, 0.6, 1.0), ("yelp", 0.4, 0.25, 0.6, 2.0), ("omniglot", 0.8, 0.15, 0.5, 0.5),
    ):  # fmt: skip
        assert fields(f"{folder}/beta-vae")["objective"]["rate_weight"]["end"] == beta
        assert fields(f"{folder}/iaf-fb")["objective"]["free_bits"]["nats"] == free
        assert fields(f"{folder}/bn-vae")["model"]["posterior"]["moments"][0]["gamma"] == gamma
        assert fields(f"{folder}/mae")["regularizers"][0]["eta"] == eta


# ------------------------------------------------------------------------------------------------------------- building


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return overrides: small data of the shape that a pipeline expects, texts and images."""
    folder, rng = tmp_path_factory.mktemp("data"), random.Random(0)
    for part, count in (("train", 160), ("valid", 48), ("test", 48)):
        texts = [f"{i % 2}\t{' '.join(rng.choices('abcdefghij', k=3 + i // 2 % 2))}" for i in range(count)]
        (folder / f"{part}.txt").write_text("\n".join(texts) + "\n")
    numbers = np.random.default_rng(0)
    np.savez(
        folder / "images.npz",
        x=numbers.integers(0, 2, (120, 1, 28, 28)).astype(np.float32),
        y=np.arange(120) % 4,
    )
    return {
        "texts": f"data={{type: text_lines, root: '{folder}', train: train.txt, validation: valid.txt, test: test.txt, "
        "labels: column, batching: equal_length, smallest_batch: 16, batch_size: 32}",
        "images": f"data={{type: arrays, path: '{folder / 'images.npz'}', support: binary, validation: 30, test: 30, "
        "batch_size: 15}",
    }


# Yahoo's rows are Yelp's with other numbers, those of short Yelp too, and the synthetic ones run as they are.
BUILT = [path for path in PIPELINES if path.parent.name in ("yelp", "omniglot", "yelp-small", "omniglot-small")]


@pytest.mark.parametrize("path", [*BUILT, EXAMPLES / "short-yelp" / "ae.yaml"], ids=name_of)
def test_builds(path: Path, data: dict[str, str]) -> None:
    config = load_config(path)
    changes = [data["texts" if config.data.type == "text_lines" else "images"], "training.device=cpu"]
    if config.objective.type == "baselines.semi_amortized":
        # A pipeline is tried out when it is built, with all the steps of its objective.
        changes.append("objective.steps=1")
    built = Pipeline.from_yaml(path, changes).build()
    small = path.parent.name.endswith("small")
    assert sum(p.numel() for p in built.model.parameters()) < (1e6 if small else 1e8)


TINY = (
    "training.epochs=3",
    "training.device=cpu",
    "evaluation.examples=20",
    "evaluation.estimators=[{type: elbo}, {type: mutual_posterior_divergence, per_batch: null}, "
    "{type: duvae.conditional_entropy}]",
)


@pytest.mark.parametrize("row", ["ae", "du-vae-5-8", "du-iaf"])
def test_texts_train(row: str, tmp_path: Path, data: dict[str, str]) -> None:
    probes = "evaluation.probes=[{type: duvae.linear, labels: [20], draws: 1, epochs: 2}]"
    path = EXAMPLES / "yelp-small" / f"{row}.yaml"
    run = Pipeline.from_yaml(path, [*TINY, data["texts"], probes]).fit(tmp_path / "run", quiet=True)
    assert run.results is not None
    assert run.results["skipped"] == {}
    assert {"conditional_entropy", "mutual_posterior_divergence"} <= run.results["estimates"].keys()
    assert "duvae_linear_accuracy_20" in run.results["probes"]


@pytest.mark.parametrize("row", ["du-vae-5-9", "du-iaf"])
def test_images_train(row: str, tmp_path: Path, data: dict[str, str]) -> None:
    probes = "evaluation.probes=[{type: duvae.grouped, per_class: [5], epochs: 2}]"
    path = EXAMPLES / "omniglot-small" / f"{row}.yaml"
    run = Pipeline.from_yaml(path, [*TINY, data["images"], probes]).fit(tmp_path / "run", quiet=True)
    assert run.results is not None
    assert run.results["skipped"] == {}
    # With the floor no dimension of the base has less entropy than none.
    assert min(run.results["estimates"]["conditional_entropy"]["per_dimension"]) > -1e-6


def test_synthetic_texts_train(tmp_path: Path) -> None:
    changes = [*TINY, "data.train=320", "data.validation=64", "data.test=64", "objective.rate_weight.until_epoch=1"]
    changes += ["model.posterior.moments.1.from_epoch=1", "model.encoder.hidden=8", "model.decoder.hidden=8"]
    path = EXAMPLES / "synthetic" / "du-vae-5-8.yaml"
    run = Pipeline.from_yaml(path, changes).fit(tmp_path / "run", quiet=True)
    assert run.results is not None
    assert run.load("last").model.latent_shape == (2,)
    assert torch.isfinite(torch.tensor(run.results["probes"]["knn_accuracy"]["value"]))
