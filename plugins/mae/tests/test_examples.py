"""The examples: every pipeline of the paper is valid, builds and trains; the loop of one's own runs."""

from __future__ import annotations

import runpy
import tarfile
from pathlib import Path

import pytest
import torch
from uncollapse import Pipeline
from uncollapse.config import BuildContext
from uncollapse.config.load import load_config
from uncollapse.errors import ConfigError, ShapeError
from uncollapse.protocols import DataSpec
from uncollapse_baselines import PlateauSchedule
from uncollapse_mae import MutualDivergenceConfig

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
PIPELINES = sorted((EXAMPLES / "mae").glob("*.yaml"))
PENALIZED = {"mnist", "mnist-small", "omniglot", "cifar10", "cifar10-small"}
PLAIN = {"mnist-small-vae", "resnet-vae", "resnet-vae-small", "vlae", "vlae-free-bits", "vlae-small"}

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
TINY_COLOUR = (
    "model.posterior.latent_dim=[2, 8, 8]",
    "model.encoder.growth=[2, 2, 2]",
    "model.encoder.steps=[1, 1, 1]",
    "model.encoder.features=4",
    "model.prior.blocks=1",
    "model.prior.hidden=4",
    "model.decoder.blocks=1",
    "model.decoder.filters=4",
    "model.decoder.maps=2",
    "model.decoder.likelihood.mixtures=2",
    *(change for change in TINY if change.startswith(("training", "evaluation"))),
)


def ids(path: Path) -> str:
    return path.stem


def test_there_are_pipelines() -> None:
    assert {p.stem for p in PIPELINES} == {*PENALIZED, *PLAIN}


@pytest.mark.parametrize("path", PIPELINES, ids=ids)
def test_is_valid(path: Path) -> None:
    config = load_config(path)
    kinds = [type(r) for r in config.regularizers]
    assert kinds == ([MutualDivergenceConfig] if path.stem in PENALIZED else [])
    assert path.read_text().startswith("# ")


def test_names_differ() -> None:
    names = [load_config(path).name for path in PIPELINES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", ["mnist", "omniglot", "resnet-vae", "vlae", "vlae-free-bits"])
def test_the_prior_of_whole_binary_pipelines_is_the_released_one(name: str) -> None:
    """The released binary_image.json: four blocks, 356,352 parameters for 32 latents."""
    config = load_config(EXAMPLES / "mae" / f"{name}.yaml")
    prior = config.model.prior.build(BuildContext(DataSpec((1, 28, 28), "binary"), latent_shape=(32,)))
    assert sum(p.numel() for p in prior.parameters()) == 356_352


def plateau(name: str) -> PlateauSchedule:
    """Return a pipeline's schedule."""
    learning_rate = load_config(EXAMPLES / "mae" / f"{name}.yaml").training.learning_rate
    schedule = learning_rate.build(BuildContext(DataSpec((1, 28, 28), "binary"), steps_per_epoch=10))
    assert isinstance(schedule, PlateauSchedule)
    return schedule


@pytest.mark.parametrize("name", ["mnist", "omniglot", "resnet-vae", "vlae", "vlae-free-bits"])
def test_a_flat_run_decays_where_the_release_decays(name: str) -> None:
    """At epochs 22, 43 and 64, the third of which ends it."""
    schedule, decays, ends = plateau(name), [], []
    for epoch in range(1, 65):
        before = schedule.decays
        ends += [epoch] if schedule.validated(1.0, epoch).stop else []
        decays += [epoch] if schedule.decays > before else []
    assert decays == [22, 43, 64]
    assert ends == [64]


def test_colour_ends_where_its_rate_has_fallen_enough() -> None:
    """750 steps an epoch of 0.999995 each: below a twentieth at epoch 799, though every epoch is better."""
    schedule = plateau("cifar10")
    assert next(e for e in range(1, 1001) if schedule.validated(-float(e), 750 * e).stop) == 799


def test_small_pipelines_differ_in_the_penalty_only() -> None:
    mae, vae = (load_config(EXAMPLES / "mae" / f"mnist-small{suffix}.yaml") for suffix in ("", "-vae"))
    assert mae.model_copy(update={"name": vae.name, "regularizers": ()}) == vae


@pytest.fixture(scope="module")
def colour_images(tmp_path_factory: pytest.TempPathFactory, full_data: Path) -> Path:
    """Return a folder with 8 training and 2 test images of each class of CIFAR-10."""
    folder = tmp_path_factory.mktemp("cifar10-jpeg")
    with tarfile.open(full_data / "cifar10-jpeg" / "cifar10-jpeg-6000.tar") as archive:
        for member in archive:
            number = int(Path(member.name).stem) if member.isfile() else 0
            if number < (8 if member.name.startswith("train") else 2):
                archive.extract(member, folder, filter="data")
    return folder


def colour(root: Path) -> list[str]:
    return [f"data={{type: image_folder, root: '{root}', values: bytes, batch_size: 8, limit: 24, validation: 16}}"]


@pytest.mark.parametrize("path", [p for p in PIPELINES if p.stem.startswith("cifar10")], ids=ids)
def test_colour_trains_and_samples(path: Path, tmp_path: Path, colour_images: Path) -> None:
    run = Pipeline.from_yaml(path, [*colour(colour_images), *TINY_COLOUR]).fit(tmp_path / "run", quiet=True)
    assert run.results is not None
    assert {"elbo", "nll", "bits_per_dimension", "mutual_posterior_divergence"} <= set(run.results["estimates"])
    assert run.results["skipped"] == {}
    assert "mae.mutual_divergence/diverse" in [row for row in run.metrics() if row["split"] == "train"][-1]
    model = run.load().model
    x = model.generate(model.p_z().sample((2,))).sample()
    assert x.shape == (2, 3, 32, 32)
    torch.testing.assert_close((255 * x).round() / 255, x)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["data.size=30"], r"model\.decoder\.levels: .*multiples of 4, found 30x30; use levels: 2"),
        (["data.size=28"], r"model\.posterior\.latent_dim: .*\(4, 8, 8\), found \(4, 7, 7\)"),
        (["model.encoder.out_channels=6"], r"model\.posterior\.latent_dim: .*\(4, 8, 8\), found \(6, 8, 8\)"),
        (["data.grayscale=true", "data.values=unit_interval"], r"model\.decoder\.likelihood: 'logistic_mixture'"),
        (["model.posterior.latent_dim=[2, 4, 4]"], r"model\.posterior\.latent_dim: .*\(4, 4, 4\), found \(4, 8, 8\)"),
        (["model.posterior.latent_dim=32"], r"model\.prior: .*maps \(C, H, W\), found latents of shape \(32,\)"),
    ],
)
def test_colour_parts_that_do_not_fit_are_refused(changes: list[str], message: str, colour_images: Path) -> None:
    overrides = [*colour(colour_images), *TINY_COLOUR, *changes]
    with pytest.raises((ConfigError, ShapeError), match=message):
        Pipeline.from_yaml(EXAMPLES / "mae" / "cifar10.yaml", overrides).build()


@pytest.mark.parametrize("path", [p for p in PIPELINES if not p.stem.startswith("cifar10")], ids=ids)
def test_trains(path: Path, tmp_path: Path, shared_data: Path, request: pytest.FixtureRequest) -> None:
    overrides = [*TINY, f"data.root={shared_data}"]
    if path.stem.startswith("mnist-small"):
        overrides += ["model.encoder.hidden=[16]"]
    else:
        overrides += ["model.encoder.widths=[4, 4, 4]", "model.encoder.features=16", "model.prior.blocks=1"]
    if path.stem == "omniglot":
        overrides += [
            f"data.root={request.getfixturevalue('full_data') / 'omniglot'}",
            "data.files=[images_background_small1]",
        ]
        overrides += ["data.test=16"]
    if path.stem.startswith("resnet-vae"):
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
