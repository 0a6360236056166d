"""Every installed component passes the kit; one that is added is picked up by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from uncollapse.config.component import ComponentConfig
from uncollapse.errors import ConfigError
from uncollapse.plugins import registry
from uncollapse.testing import assert_conforms, check_component, example_of

Fields = Mapping[str, Any]

# What a config is checked with, beside or instead of its defaults. Components with required fields need an entry here,
# or ``Field(examples=[...])`` on these fields.
EXAMPLES: dict[str, tuple[Fields, ...]] = {
    "posterior:gaussian": (
        {"latent_dim": 4},
        {"latent_dim": [4, 2, 2]},
        {"latent_dim": 3, "logvar_range": [-6, 2]},
    ),
    "posterior:iaf": (
        {"latent_dim": 4, "hidden": 12},
        {"latent_dim": 3, "blocks": 1, "hidden": 8, "hidden_layers": 1, "context": 0, "scale": "exp"},
        {"latent_dim": 1, "hidden": 8},
    ),
    "decoder:mlp": (
        {},
        {"likelihood": "gaussian"},
        {"likelihood": "categorical", "hidden": [16]},
        {"likelihood": "logistic_mixture"},
    ),
    "decoder:pixelcnn": ({}, {"channels": 8, "kernels": [3, 3], "likelihood": "logistic_mixture"}),
    "decoder:conv": ({}, {"likelihood": "gaussian"}, {"likelihood": "logistic_mixture"}),
    "decoder:resnet": ({}, {"likelihood": "gaussian"}, {"likelihood": "logistic_mixture"}),
    "prior:gaussian_mixture": ({}, {"components": 3, "learn_weights": False}),
    "prior:vampprior": ({"components": 8}, {"components": 40, "from_data": False}),
    "likelihood:bernoulli": ({}, {"clamp": 1e-5}),
    "likelihood:logistic": ({}, {"scale": "learned"}, {"scale": 0.05}),
    "likelihood:gaussian": ({}, {"scale": "per_value"}, {"scale": 0.3}),
    "likelihood:logistic_mixture": ({}, {"mixtures": 3, "density_below": 0}),
    "objective:elbo": (
        {},
        {"rate": "monte_carlo", "samples": 2},
        {"free_bits": {"nats": 0.1, "variant": "example_per_dimension"}, "rate_weight": 0.5},
        {"rate_weight": {"type": "linear", "until_epoch": 5}},
    ),
    "objective:iwae": ({}, {"samples": 1}),
    "schedule:constant": ({"value": 0.5},),
    "schedule:linear": ({"until_epoch": 5}, {"until_epoch": 2.5, "start": 1, "end": 0.1, "per": "epoch"}),
    "schedule:cyclical": ({"until_epoch": 8}, {"until_epoch": 3, "cycles": 2, "rise": 1}),
    "optimizer:sgd": ({"lr": 0.01}, {"lr": 0.01, "momentum": 0.9}),
    "learning_rate:multistep": ({"milestones": [2, 5]},),
    "learning_rate:warmup": ({"epochs": 2},),
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


WRITTEN: dict[str, Callable[[Path], Fields]] = {"data:arrays": _arrays, "data:image_folder": _image_folder}
"""Data that a test can write itself."""

REAL: dict[str, tuple[str, Fields]] = {
    "data:mnist": ("", {"binarize": "dynamic", "limit": 1000}),
    "data:fashion_mnist": ("", {"limit": 1000}),
    "data:omniglot": ("omniglot", {"files": ["images_background_small1"], "validation": 100, "test": 200}),
}
"""Data that lie beside the project: their folder and further fields. Elsewhere the kit says that they are not there."""

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
    assert_conforms(component, examples=examples_for(component, tmp_path, shared))


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
