"""The pipelines of table 1: valid, apart from one another where the paper says so, and they train."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn
from uncollapse import Pipeline
from uncollapse.config.load import load_config
from uncollapse.distributions import DiagonalNormal
from uncollapse_muvae import OnlineClassifier, TraversalSampler

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "muvae"
MODELS = ("vae", "beta-vae", "muvae-1", "muvae-2")
PIPELINES = {f"{data}-{model}" for data in ("mnist", "fashion", "mnist-small", "fashion-small") for model in MODELS}

TINY = (
    "data.batch_size=8",
    "data.limit=24",
    "data.validation=16",
    "data.download=false",
    "model.encoder.channels=[2, 2, 2]",
    "model.decoder.channels=[2, 2, 2]",
    "training.epochs=1",
    "training.device=cpu",
    "training.observers=[{type: muvae.classifier, hidden: [8]}]",
    "evaluation.examples=16",
    "evaluation.probes=[{type: muvae.mlp, hidden: [8], epochs: 1}]",
    "evaluation.estimators=[{type: elbo}]",
)


def test_there_are_pipelines() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.yaml")} == PIPELINES


@pytest.mark.parametrize("name", sorted(PIPELINES))
def test_is_valid(name: str) -> None:
    config = load_config(EXAMPLES / f"{name}.yaml")
    assert config.name == name
    assert config.data.type == ("mnist" if name.startswith("mnist") else "fashion_mnist")
    model, regularizers = config.model.model_dump(), [r.type for r in config.regularizers]
    moments = model["posterior"]["moments"]
    if "muvae" in name:
        assert (config.objective.type, regularizers) == ("reconstruction", ["muvae.modified_kl"])
        assert [m["c"] for m in moments] == [3.0 if name.endswith("1") else 6.0]
    else:
        weight = config.objective.model_dump()["rate_weight"]["value"]
        assert (config.objective.type, regularizers, weight) == ("elbo", [], 4.0 if "beta" in name else 1.0)
        assert moments == []
    likelihood = model["decoder"]["likelihood"]
    assert likelihood["mean"] == "sigmoid"
    assert math.isclose(likelihood["scale"] ** 2, 0.5, rel_tol=1e-12)
    if "small" not in name:
        assert (config.data.batch_size, config.training.optimizer.lr) == (64, 1e-4)
        assert config.training.observers[0].model_dump()["hidden"] == (1024, 1024, 1024)


def test_is_the_paper_s_model(full_data: Path) -> None:
    """Table 4: 64 maps at 28, 14 and 7; 64 at 7, 32 at 14, one at 28; and the start of appendix B."""
    overrides = [f"data.root={full_data}", "data.download=false"]
    model = Pipeline.from_yaml(EXAMPLES / "mnist-muvae-1.yaml", overrides).build().model
    x, shapes = torch.rand(2, 1, 28, 28), []
    convolutions = (nn.Conv2d, nn.ConvTranspose2d)
    for part in (model.encoder, model.decoder):
        for module in part.modules():
            if isinstance(module, convolutions):
                module.register_forward_hook(lambda m, i, o: shapes.append(tuple(o.shape[1:])))
    p_x = model.generate(model.infer(x).mean)
    assert shapes == [(64, 28, 28), (64, 14, 14), (64, 7, 7), (64, 7, 7), (32, 14, 14), (1, 28, 28)]
    assert isinstance(p_x, DiagonalNormal)
    error = (x - p_x.mean).square().flatten(1).sum(1)
    torch.testing.assert_close(-p_x.log_prob(x), error + 392 * math.log(math.pi))
    layers = [m for m in model.modules() if isinstance(m, (nn.Linear, *convolutions))]
    # The inputs of each layer, by hand: channels times 9, or features.
    inputs = (9, 576, 576, 3136, 10, 576, 576, 288)
    for layer, n in zip(layers, inputs, strict=True):
        assert math.isclose(layer.weight.std().item(), math.sqrt(2 / n), rel_tol=0.15), layer
        assert layer.bias is not None
        assert not layer.bias.any()


def test_trains_and_its_classifier_is_in_the_checkpoint(tmp_path: Path, shared_data: Path) -> None:
    root = f"data.root={shared_data}"
    pipeline = Pipeline.from_yaml(EXAMPLES / "fashion-muvae-2.yaml", [*TINY, root])
    whole = pipeline.fit(tmp_path / "whole", quiet=True)
    last = [row for row in whole.metrics() if row["split"] == "train"][-1]
    assert {"muvae.modified_kl/mean", "muvae.modified_kl/logvar", "muvae.classifier/accuracy"} <= last.keys()
    assert whole.results is not None
    assert {"mlp_accuracy"} == set(whole.results["probes"])
    built = whole.load("last")
    classifier = OnlineClassifier(10, 10, (8,))
    saved = whole.checkpoints.open("last").state()["companions"]["observers"]["muvae.classifier"]
    start = {name: t.clone() for name, t in classifier.network.state_dict().items()}
    classifier.load_state_dict(saved)
    assert any(not torch.equal(t, start[name]) for name, t in classifier.network.state_dict().items())
    found = classifier.measure(built.model, lambda: built.data.test.batches(5000))["online_accuracy"]
    assert found.count == len(built.data.test)
    assert 0 < found.value < 1
    x = TraversalSampler(20.0, means=True)(built.model, 400)
    assert x.shape == (400, 1, 28, 28)


def test_beta_vae_trains(tmp_path: Path, shared_data: Path) -> None:
    overrides = [*TINY, f"data.root={shared_data}"]
    run = Pipeline.from_yaml(EXAMPLES / "mnist-beta-vae.yaml", overrides).fit(tmp_path / "run", quiet=True)
    assert run.results is not None
    assert run.results["skipped"] == {}


def test_the_observer_changes_nothing_of_the_model(tmp_path: Path, shared_data: Path) -> None:
    weights = []
    for observers in ("[{type: muvae.classifier, hidden: [8]}]", "[]"):
        overrides = [*TINY, f"data.root={shared_data}", f"training.observers={observers}", "evaluation.probes=[]"]
        pipeline = Pipeline.from_yaml(EXAMPLES / "mnist-small-muvae-1.yaml", overrides)
        weights.append(pipeline.fit(tmp_path / str(len(weights)), quiet=True).load("last").model.state_dict())
    assert weights[0].keys() == weights[1].keys()
    for key, expected in weights[1].items():
        assert torch.equal(weights[0][key], expected), key
