"""The examples: every pipeline of the paper is valid, builds and trains; the sweep and the comparison run."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from uncollapse import Pipeline
from uncollapse.config.load import load_config
from uncollapse_mim import AMIMConfig, JointEntropyConfig, MIMConfig

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "mim"
PIPELINES = sorted(EXAMPLES.glob("*.yaml"))

# The same parts and the same wiring, at sizes that train in seconds.
TINY = (
    "data.batch_size=8",
    "training.epochs=1",
    "training.early_stopping=null",
    "training.device=cpu",
    "evaluation.batch_size=16",
    "evaluation.examples=16",
    "evaluation.probes=[{type: knn, neighbors: 2}]",
)
ESTIMATORS = "evaluation.estimators=[{type: elbo}, {type: nll, samples: 3}, {type: mim.ksg, neighbors: 2}]"
NARROW = {
    "encoder": "model.encoder={type: hvae_conv, top: {channels: [2, 2], stride: [2, 2]}, bottom: {channels: [2, 2], stride: [2, 2]}}",
    "posterior": "model.posterior={type: two_level, bottom_dim: 3, top_dim: 2, hidden: 4}",
}


def ids(path: Path) -> str:
    return path.stem


def overrides(path: Path, shared: Path) -> list[str]:
    config = load_config(path)
    found = [*TINY, ESTIMATORS]
    if config.data.type == "mim.mixture":
        found += ["data.train=24", "data.validation=16", "data.test=16"]
    else:
        found += [f"data.root={shared}", "data.download=false", "data.limit=24", "data.validation=16"]
    for weight in ("beta", "rate_weight"):
        if getattr(getattr(config.objective, weight, None), "type", "") == "linear":
            found.append(f"objective.{weight}.until_epoch=1")
    if config.model.posterior.type == "two_level":
        kind = config.model.decoder.type
        small = "hidden: 4, channels: [2]" if kind == "hvae_conv" else "kernels: [3], channels: 2"
        found += [*NARROW.values(), "model.prior.hidden=[4]"]
        found.append(f"model.decoder={{type: {kind}, {small}, likelihood: {{type: bernoulli, clamp: 1.0e-5}}}}")
        if "vampprior" in path.stem:
            found.append("model.prior.top.components=3")
    elif path.stem.startswith("mnist"):
        found += ["model.encoder.hidden=[8]", "model.posterior.latent_dim=3", "model.decoder.kernels=[3]"]
        found += ["model.decoder.channels=2"]
    if config.data.type == "mnist" and isinstance(config.objective, MIMConfig):
        found.append("objective.decode_examples=2")
    return found


def test_there_are_pipelines() -> None:
    rows = [
        f"{kind}hvae2-{top}-{how}"
        for kind, how in (("conv", "mim"), ("pixel", "amim"))
        for top in ("standard", "vampprior")
    ]
    expected = {f"{row}{size}" for row in rows for size in ("", "-small")}
    expected |= {f"{figure}-{who}" for figure in ("figure2", "figure3", "mixture20") for who in ("mim", "vae")}
    expected |= {"figure8-mim-h", "figure8-vae-h", "consistency-mim", "consistency-ce"}
    expected |= {f"mnist-{who}-small" for who in ("mim", "amim", "vae")}
    assert {p.stem for p in PIPELINES} == expected


@pytest.mark.parametrize("path", PIPELINES, ids=ids)
def test_is_valid(path: Path) -> None:
    config = load_config(path)
    assert path.read_text().startswith("# ")
    assert config.name.removeprefix("mnist-") == path.stem.removeprefix("mnist-")
    if "amim" in path.stem:
        assert isinstance(config.objective, AMIMConfig)
    elif "mim" in path.stem or "-ce" in path.stem:
        assert isinstance(config.objective, MIMConfig)
    assert isinstance(config.regularizers[0], JointEntropyConfig) if path.stem == "figure8-vae-h" else True


@pytest.mark.parametrize(
    ("one", "other"),
    [("figure2-mim", "figure2-vae"), ("figure3-mim", "figure3-vae"), ("mnist-mim-small", "mnist-vae-small"),
     ("mnist-mim-small", "mnist-amim-small"), ("consistency-mim", "consistency-ce")],
)  # fmt: skip
def test_compared_pipelines_differ_in_the_objective_only(one: str, other: str) -> None:
    a, b = (load_config(EXAMPLES / f"{name}.yaml") for name in (one, other))
    assert a.model_copy(update={"name": b.name, "objective": b.objective}) == b
    assert a.objective != b.objective


# One of each choice of parts: the others differ from these in sizes or in the objective that another one has.
TRAINED = [
    p
    for p in PIPELINES
    if not p.stem.startswith("mixture20")
    and p.stem not in ("figure3-vae", "mnist-vae-small", "consistency-ce")
    and not ("hvae" in p.stem and not p.stem.endswith("-small"))
]


@pytest.mark.parametrize("path", TRAINED, ids=ids)
def test_trains(path: Path, tmp_path: Path, shared_data: Path) -> None:
    run = Pipeline.from_yaml(path, overrides(path, shared_data)).fit(tmp_path / "run", quiet=True)
    assert run.results is not None
    assert {"elbo", "nll", "ksg_mutual_information"} <= set(run.results["estimates"])
    assert run.results["skipped"] == {}
    rows = [row for row in run.metrics() if row["split"] == "train"]
    objective = load_config(path).objective
    assert ("encode_half" in rows[-1]) == isinstance(objective, AMIMConfig | MIMConfig)
    assert ("decode_half" in rows[-1]) == isinstance(objective, MIMConfig)


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(EXAMPLES))

    def call(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["sweep.py", *arguments])
        runpy.run_path(str(EXAMPLES / "sweep.py"))["main"]()

    return call


def test_sweep_trains_seeds_together_goes_on_and_collects(
    sweep: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = ("--set", "data.train=200", "--set", "data.validation=100", "--set", "data.test=100")
    short += ("--set", "training.epochs=3", "--set", "training.early_stopping=null")
    common = ("figure2", "--folder", str(tmp_path / "cells"), "--values", "4", "--seeds", "2", *short)
    sweep(*common, "--only", "mim")
    sweep(*common)
    assert "mim-4.json: there already" in capsys.readouterr().out
    cell = json.loads((tmp_path / "cells" / "mim-4.json").read_text())
    assert [run["seed"] for run in cell["runs"]] == [1, 2]
    assert [run["epochs"] for run in cell["runs"]] == [3, 3]
    first, second = (run["results"]["estimates"]["elbo"]["value"] for run in cell["runs"])
    assert first != second
    sweep("figure2", "--folder", str(tmp_path / "cells"), "--collect", str(tmp_path / "out.json"))
    assert len(json.loads((tmp_path / "out.json").read_text())) == 2
    table = (tmp_path / "out.md").read_text().splitlines()
    assert len(table) == 4
    assert table[2].startswith("| mim | 4 |")


def test_seeds_trained_together_are_what_the_trainer_makes_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without noise in the loss (a posterior and a likelihood that are all but points) both are the same, digit by digit."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from together import train_together

    path = EXAMPLES / "figure2-vae.yaml"
    changes = ["data.train=200", "data.validation=64", "data.test=32", "data.batch_size=50", "training.epochs=4"]
    changes += ["objective={type: reconstruction}", "model.posterior.logvar_range=[-60.0, -59.9]"]
    changes += ["model.decoder.likelihood={type: gaussian, scale: 1.0}", "evaluation.probes=[]"]
    changes += ["evaluation.estimators=[{type: elbo}]"]
    pipelines = [Pipeline.from_yaml(path, [*changes, f"seed={seed}"]) for seed in (1, 2)]
    outcomes = train_together(pipelines, quiet=True)
    for i, pipeline in enumerate(pipelines):
        run = pipeline.fit(tmp_path / str(i), quiet=True)
        assert run.results is not None
        expected = run.results["estimates"]["distortion"]["value"]
        found = outcomes[i].results["estimates"]["distortion"]["value"]
        assert found == pytest.approx(expected, rel=1e-4)
        losses = [row["loss"] for row in run.metrics() if row["split"] == "validation"]
        assert outcomes[i].validation_loss == pytest.approx(min(losses), rel=1e-4)
    assert outcomes[0].validation_loss != outcomes[1].validation_loss


def test_consistency(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    module = runpy.run_path(str(EXAMPLES / "consistency.py"))
    module["main"].__globals__["SAMPLES"] = 500
    arguments = ["consistency.py", "--runs", str(tmp_path / "runs"), "--output", str(tmp_path / "out.json")]
    for change in ("training.epochs=3", "data.train=400", "data.validation=100", "evaluation.examples=50"):
        arguments += ["--set", change]
    monkeypatch.setattr(sys, "argv", arguments)
    module["main"]()
    found = json.loads((tmp_path / "out.json").read_text())
    assert set(found) == {"ce", "mim"}
    assert len(found["mim"]) == 6
    assert all(0 <= v < 3 for row in found.values() for v in row.values())
    assert "L_MIM" in capsys.readouterr().out
