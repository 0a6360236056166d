"""The pipelines of examples/hierarchies and examples/iaf: valid, with the sizes they claim, and they train."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from uncollapse import Pipeline
from uncollapse.config import BuildContext
from uncollapse.config.load import load_config
from uncollapse.protocols import DataSpec

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
HIERARCHIES = sorted((EXAMPLES / "hierarchies").glob("*.yaml"))
PIPELINES = [*HIERARCHIES, *sorted((EXAMPLES / "iaf").glob("*.yaml"))]

# The same parts and the same wiring, at sizes that train in seconds.
TINY = (
    "data.batch_size=8",
    "data.limit=24",
    "data.validation=16",
    "data.download=false",
    "training.epochs=1",
    "training.device=cpu",
    "evaluation.examples=16",
    "evaluation.probes=[]",
)
NARROW = (
    "objective.rate_weight.until_epoch=1",
    "model.encoder.top={channels: [2, 2], stride: [2, 2]}",
    "model.encoder.bottom={channels: [2, 2], stride: [2, 2]}",
    "model.posterior={type: two_level, bottom_dim: 3, top_dim: 2, hidden: 4}",
    "model.prior.hidden=[4]",
    "evaluation.estimators=[{type: elbo}, {type: rate_per_level}, {type: nll, samples: 3}]",
)
FLOW = (
    "model.encoder={type: resnet, widths: [2, 2, 2], features: 8}",
    "model.posterior={type: iaf, latent_dim: 3, blocks: 2, hidden: 6}",
    "model.decoder={type: resnet, widths: [2, 2, 2]}",
    "evaluation.estimators=[{type: elbo}, {type: nll, samples: 3}]",
)


def stem(path: Path) -> str:
    return path.stem


def test_there_are_pipelines() -> None:
    models = [f"{kind}hvae2-{top}" for kind in ("conv", "pixel") for top in ("standard", "vampprior")]
    expected = {f"{name}{suffix}" for name in (*models, "vae-iaf") for suffix in ("", "-small")}
    assert {p.stem for p in PIPELINES} == expected


@pytest.mark.parametrize("path", PIPELINES, ids=stem)
def test_is_valid(path: Path) -> None:
    config = load_config(path)
    assert config.name == f"mnist-{path.stem}"
    assert path.read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("path", [p for p in HIERARCHIES if "small" not in p.stem], ids=stem)
def test_full_models_have_the_released_number_of_parameters(path: Path) -> None:
    """Counted from the layers of the released code; 500 pseudo-inputs of 784 values are the VampPrior's."""

    def gated(n_in: int, n_out: int, taps: int = 1) -> int:
        return 2 * (n_in * taps * n_out + n_out)

    def linear(n_in: int, n_out: int, taps: int = 1) -> int:
        return n_in * taps * n_out + n_out

    top_tower = gated(1, 32, 49) + gated(32, 32, 9) + gated(32, 64, 25) + gated(64, 64, 9) + gated(64, 6, 9)
    bottom_tower = gated(1, 32, 9) + gated(32, 32, 9) + gated(32, 64, 9) + gated(64, 64, 9) + gated(64, 6, 9)
    q_z2 = top_tower + 2 * linear(294, 40)
    q_z1 = bottom_tower + gated(40, 294) + gated(588, 300) + 2 * linear(300, 40)
    p_z1 = gated(40, 300) + gated(300, 300) + 2 * linear(300, 40)
    if "conv" in path.stem:
        convolutions = gated(1, 64, 9) + 3 * gated(64, 64, 9) + linear(64, 1)
        p_x = 2 * gated(40, 300) + gated(600, 784) + convolutions
    else:
        # Masked taps of a 3x3 kernel: 4 of type A, 5 of type B; the released ones keep the others at zero.
        masked = 3 * 4 * 64 + 7 * 64 * 5 * 64
        p_x = 2 * gated(40, 784) + masked + 8 * 2 * 64 + linear(64, 1)
    expected = q_z2 + q_z1 + p_z1 + p_x + (500 * 784 if "vampprior" in path.stem else 0)

    model = load_config(path).model
    with torch.device("meta"):
        context = BuildContext(
            DataSpec((1, 28, 28), "binary"), model.posterior.latent_shape, latent_levels=model.posterior.latent_levels
        )
        encoder = model.encoder.build(context)
        parts = [encoder]
        context = BuildContext(
            context.data, context.latent_shape, encoder.feature_shape, latent_levels=context.latent_levels
        )
        parts += [part.build(context) for part in (model.posterior, model.prior, model.decoder)]
    assert sum(p.numel() for part in parts for p in part.parameters()) == expected


# Beside these there are the same parts at other sizes, or one part less.
TRAINED = [p for p in PIPELINES if p.stem in ("convhvae2-vampprior", "pixelhvae2-vampprior-small", "vae-iaf")]


@pytest.mark.parametrize("path", TRAINED, ids=stem)
def test_trains(path: Path, tmp_path: Path, shared_data: Path) -> None:
    hierarchy = path in HIERARCHIES
    overrides = [*TINY, f"data.root={shared_data}", *(NARROW if hierarchy else FLOW)]
    if hierarchy:
        narrow = {"conv": ["hidden=4", "channels=[2]"], "pixel": ["kernels=[3, 3]", "channels=2"]}
        overrides += [f"model.decoder.{field}" for field in narrow["conv" if "conv" in path.stem else "pixel"]]
        overrides += ["model.prior.top.components=5"]
    else:
        overrides += ["training.initialize_examples=16"]
    run = Pipeline.from_yaml(path, overrides).fit(tmp_path / "run", quiet=True)
    assert run.results is not None
    assert run.results["skipped"] == {}
    assert {"elbo", "nll"} <= set(run.results["estimates"])
    assert ("rate_top" in run.results["estimates"]) == hierarchy
