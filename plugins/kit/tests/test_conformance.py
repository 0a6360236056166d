"""Every installed component passes the kit; one that is added is picked up by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from uncollapse.config import BuildContext, ComponentConfig
from uncollapse.errors import ConfigError
from uncollapse.model import LatentVariableModel
from uncollapse.plugins import registry
from uncollapse.priors import StandardNormalPrior
from uncollapse_kit import assert_conforms, check_component, example_of, reference_model
from uncollapse_latents.posteriors import TwoLevelPosterior
from uncollapse_latents.priors import TwoLevelPrior

Fields = Mapping[str, Any]

# What a config is checked with, beside or instead of its defaults. Components with required fields need an entry here,
# or ``Field(examples=[...])`` on these fields.
EXAMPLES: dict[str, tuple[Fields, ...]] = {
    "posterior:gaussian": (
        {"latent_dim": 4},
        {"latent_dim": [4, 2, 2]},
        {"latent_dim": 3, "logvar_range": [-6, 2]},
        {"latent_dim": 3, "bias": False, "init_range": 0.01},
    ),
    "posterior:iaf": (
        {"latent_dim": 4, "hidden": 12},
        {"latent_dim": 3, "blocks": 1, "hidden": 8, "hidden_layers": 1, "context": 0, "scale": "exp"},
        {"latent_dim": 1, "hidden": 8},
    ),
    "posterior:two_level": (
        {"bottom_dim": 3, "top_dim": 2, "hidden": 8},
        {"bottom_dim": 1, "top_dim": 3, "hidden": 6, "top_features": 5, "logvar_range": None},
    ),
    "encoder:gated_conv": ({}, {"channels": [4, 3], "kernel_size": 3, "stride": [1, 2]}),
    "encoder:hvae_conv": ({}, {"top": {"channels": [4, 2], "stride": 2}, "bottom": {"channels": [2], "stride": 4}}),
    "decoder:hvae_conv": (
        {"channels": [8, 8]},
        {"top_dim": 1, "hidden": 8, "channels": [8], "kernel_size": 5, "likelihood": "gaussian"},
    ),
    "decoder:hvae_pixelcnn": (
        {"channels": 8, "kernels": [3, 3, 3]},
        {"top_dim": 1, "channels": 8, "kernels": [5, 3], "latent_mask": "visible"},
    ),
    "decoder:mlp": (
        {},
        {"likelihood": "gaussian"},
        {"likelihood": "categorical", "hidden": [16]},
        {"likelihood": "logistic_mixture"},
    ),
    "decoder:pixelcnn": (
        {},
        {"channels": 8, "kernels": [3, 3], "likelihood": "logistic_mixture"},
        {"channels": 8, "kernels": [3, 3, 3], "normalization": "weight", "conditioning": "maps", "long_skips": True},
        {"channels": 8, "kernels": [3, 3], "normalization": "batch", "maps_activation": "none", "conditioning": "maps"},
        {"channels": 8, "kernels": [3, 3], "channel_order": "ascending", "likelihood": "gaussian"},
    ),
    "decoder:gated_pixelcnn": (
        {"channels": 16},
        {"channels": 8, "kernels": [3, 3], "likelihood": "logistic_mixture", "condition": "horizontal"},
        {"channels": 8, "kernels": [3, 3], "normalization": "weight", "conditioning": "maps"},
        {"channels": 16, "kernels": [3, 3], "channel_order": "descending", "likelihood": "gaussian"},
    ),
    "decoder:pixelcnnpp": (
        {"levels": 2, "blocks": 1, "filters": 4, "maps": 2, "likelihood": "bernoulli"},
        {"levels": 2, "blocks": 1, "filters": 4, "maps": 2, "activation": "elu"},
    ),
    "encoder:lstm": (
        {"embedding": 5, "hidden": 6},
        {"embedding": 5, "hidden": 6, "layers": 2, "init_range": None, "embedding_init_range": None},
    ),
    "decoder:lstm": (
        {"embedding": 5, "hidden": 6},
        {"embedding": 5, "hidden": 6, "layers": 2, "word_dropout": 0.3, "init_range": None},
    ),
    "decoder:transformer": (
        {"width": 8, "heads": 2, "layers": 2},
        {"width": 8, "heads": 4, "layers": 1, "latent": "memory", "positions": "sinusoidal", "word_dropout": 0.3},
        {"width": 8, "heads": 2, "layers": 1, "hidden": 12, "latent": "embedding", "tied": True},
    ),
    "decoder:conv": ({}, {"likelihood": "gaussian"}, {"likelihood": "logistic_mixture"}),
    "decoder:resnet": ({}, {"likelihood": "gaussian"}, {"likelihood": "logistic_mixture"}),
    "encoder:densenet": ({"growth": [2, 3], "steps": [1, 2], "features": 6},),
    "prior:autoregressive_conv": (
        {"blocks": 1, "hidden": 6},
        {"blocks": 1, "hidden": 4, "hidden_layers": 1, "kernel_size": 5},
    ),
    "prior:gaussian_mixture": ({}, {"components": 3, "learn_weights": False}),
    "prior:two_level": (
        {"top_dim": 1, "hidden": [8]},
        {"top_dim": 1, "hidden": [8, 6], "top": {"type": "gaussian_mixture", "components": 3}, "logvar_range": None},
    ),
    "prior:vampprior": ({"components": 8}, {"components": 40, "from_data": False}),
    "likelihood:bernoulli": ({}, {"clamp": 1e-5}),
    "likelihood:logistic": ({}, {"scale": "learned"}, {"scale": 0.05}),
    "likelihood:gaussian": ({}, {"scale": "per_value"}, {"scale": 0.3}, {"mean": "sigmoid"}),
    "likelihood:logistic_mixture": ({}, {"mixtures": 3, "density_below": 0}),
    "objective:elbo": (
        {},
        {"rate": "monte_carlo", "samples": 2},
        {"free_bits": {"nats": 0.1, "variant": "example_per_dimension"}, "rate_weight": 0.5},
        {"rate_weight": {"type": "linear", "until_epoch": 5}},
    ),
    "objective:iwae": ({}, {"samples": 1}),
    "estimator:perplexity": ({"samples": 20}, {"samples": 3, "memory": "10 KB"}),
    "objective:baselines.semi_amortized": ({"steps": 2}, {"steps": 2, "second_order": "finite_difference"}),
    "estimator:baselines.refined": ({"steps": 2, "estimators": ["elbo", "active_units"]},),
    "strategy:baselines.aggressive": ({"max_steps": 7, "check_every": 2},),
    "schedule:constant": ({"value": 0.5},),
    "schedule:linear": ({"until_epoch": 5}, {"until_epoch": 2.5, "start": 1, "end": 0.1, "per": "epoch"}),
    "schedule:cyclical": ({"until_epoch": 8}, {"until_epoch": 3, "cycles": 2, "rise": 1}),
    "optimizer:sgd": ({"lr": 0.01}, {"lr": 0.01, "momentum": 0.9}),
    "learning_rate:multistep": ({"milestones": [2, 5]},),
    "learning_rate:warmup": ({"epochs": 2},),
    # Of plugins: few steps, where the defaults take many.
}


def _image_folder(folder: Path) -> Fields:
    from PIL import Image

    random = np.random.default_rng(0)
    for label in ("cats", "dogs"):
        (folder / label).mkdir()
        for i in range(20):
            Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / label / f"{i}.png")
    return {"root": str(folder)}


def _arrays(folder: Path) -> Fields:
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 5)).astype(np.float32)
    np.savez(folder / "arrays.npz", x=x, y=random.integers(0, 3, 60))
    return {"path": str(folder / "arrays.npz"), "support": "real"}


def _text_lines(folder: Path) -> Fields:
    random = np.random.default_rng(0)
    for label in ("good", "bad"):
        texts = [" ".join(random.choice(list("abcdefgh"), n)) for n in random.integers(1, 4, 150)]
        (folder / label).write_text("\n".join(texts))
    return {"train": [str(folder / "good"), str(folder / "bad")], "labels": "files", "validation": 60, "test": 60}


def _huggingface(folder: Path) -> Fields:
    fields = _text_lines(folder)
    files = {"train": list(fields["train"])}
    return {"dataset": "text", "data_files": files, "cache": str(folder / "cache"), "validation": 60, "test": 60}


WRITTEN: dict[str, Callable[[Path], Fields]] = {
    "data:arrays": _arrays,
    "data:image_folder": _image_folder,
    "data:text_lines": _text_lines,
    "data:huggingface": _huggingface,
}
"""Data that a test can write itself."""

REAL: dict[str, tuple[str, Fields]] = {
    "data:mnist": ("", {"binarize": "dynamic", "limit": 1000}),
    "data:fashion_mnist": ("", {"limit": 1000}),
    "data:omniglot": ("omniglot", {"files": ["images_background_small1"], "validation": 100, "test": 200}),
}
"""Data that lie beside the project: their folder and further fields. Elsewhere the kit says that they are not there."""


def _two_levels(context: BuildContext) -> LatentVariableModel:
    given = reference_model(context)
    bottom, top = context.latent_size - 1, 1
    posterior = TwoLevelPosterior((16,), bottom, top, hidden=8)
    prior = TwoLevelPrior(StandardNormalPrior((top,)), top, bottom, (8,))
    return LatentVariableModel(given.encoder, posterior, prior, given.decoder)


MODELS: dict[str, Callable[[BuildContext], LatentVariableModel]] = {"estimator:rate_per_level": _two_levels}
"""What a component is given where the kit's own model, linear with a Gaussian posterior, has nothing to measure."""

COMPONENTS = registry().components()


def _key(component: type[ComponentConfig]) -> str:
    return f"{component.kind}:{component.type_name()}"


def examples_for(component: type[ComponentConfig], folder: Path, shared: Path) -> list[ComponentConfig]:
    """Return the configs that a component is checked with."""
    key = _key(component)
    if key in WRITTEN:
        return [component.model_validate(WRITTEN[key](folder))]
    if key in REAL and shared.exists():
        folder_name, fields = REAL[key]
        return [component.model_validate({"root": str(shared / folder_name), **fields})]
    if key in EXAMPLES:
        return [component.model_validate(fields) for fields in EXAMPLES[key]]
    try:
        return [example_of(component)]
    except ConfigError as error:
        pytest.fail(f"{error}; or add {key!r} to EXAMPLES of this test")


@pytest.mark.parametrize("component", COMPONENTS, ids=_key)
def test_component_conforms(component: type[ComponentConfig], tmp_path: Path, request: pytest.FixtureRequest) -> None:
    shared = Path(request.config.rootpath).parent / "shared" / "data"
    examples = examples_for(component, tmp_path, shared)
    assert_conforms(component, examples=examples, model=MODELS.get(_key(component)))


@pytest.mark.parametrize("key", [*EXAMPLES, *WRITTEN, *REAL])
def test_every_example_belongs_to_a_component(key: str) -> None:
    assert key in map(_key, COMPONENTS)


def test_no_plugin_is_broken() -> None:
    assert {p.name: p.error for p in registry().plugins if p.error} == {}


@pytest.mark.parametrize("key", sorted(WRITTEN))
def test_written_data_are_really_checked(key: str, tmp_path: Path) -> None:
    component = next(c for c in COMPONENTS if _key(c) == key)
    report = check_component(component.model_validate(WRITTEN[key](tmp_path)))
    assert report.passed
    passed = {c.name for c in report.checks if c.outcome == "passed"}
    assert {"data_spec", "data_start", "data_shares", "data_deterministic"} <= passed
