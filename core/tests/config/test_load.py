"""Pipelines from YAML: overrides, resolution, and messages that name the place."""

from __future__ import annotations

from pathlib import Path

import pytest
from uncollapse.config.load import dump_config, load_config, parse_config
from uncollapse.errors import ConfigError

MINIMAL = {
    "name": "tiny",
    "data": {"type": "digits"},
    "model": {"encoder": "mlp", "posterior": {"type": "gaussian", "latent_dim": 2}, "decoder": {"type": "mlp"}},
}


def message(raw: dict, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(raw, overrides)
    return str(caught.value)


def test_resolved_pipeline_has_every_default_and_loads_to_an_equal_one(tmp_path: Path) -> None:
    config = parse_config(
        {**MINIMAL, "objective": {"type": "elbo", "rate_weight": {"type": "linear", "until_epoch": 5}}}
    )
    path = tmp_path / "resolved.yaml"
    path.write_text(dump_config(config))
    assert "weight_decay: 0.0" in path.read_text()
    assert load_config(path) == config


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("training.epochs=7", lambda c: c.training.epochs == 7),
        ("training.optimizer.lr=1e-4", lambda c: c.training.optimizer.lr == 1e-4),
        ("model.encoder.hidden.0=32", lambda c: c.model.encoder.hidden == (32, 256)),
        ("objective.rate_weight=0.5", lambda c: c.objective.rate_weight.value == 0.5),
        ("objective={type: reconstruction}", lambda c: c.objective.type == "reconstruction"),
        ("model.posterior.latent_dim=[2, 3]", lambda c: c.model.posterior.latent_shape == (2, 3)),
    ],
)
def test_override(override, read) -> None:
    raw = {**MINIMAL, "model": {**MINIMAL["model"], "encoder": {"type": "mlp", "hidden": [8, 256]}}}
    assert read(parse_config(raw, [override]))


def test_overrides_leave_the_mapping_alone() -> None:
    raw = {**MINIMAL, "training": {"epochs": 3}}
    parse_config(raw, ["training.epochs=9"])
    assert raw["training"] == {"epochs": 3}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.epochs", "--set training.epochs: expected path=value, training.epochs=10 say"),
        ("name.x=1", "--set name.x=1: name is 'tiny', which has no field 'x'"),
        ("model.encoder.hidden.5=1", "--set model.encoder.hidden.5=1: model.encoder.hidden has 2 entries, 0 to 1; '5' is none of them"),
        ("training.epochs={", "--set training.epochs={: the value is not valid YAML; quote it"),
    ],
)  # fmt: skip
def test_wrong_override(override: str, expected: str) -> None:
    raw = {**MINIMAL, "model": {**MINIMAL["model"], "encoder": {"type": "mlp", "hidden": [8, 8]}}}
    assert message(raw, override) == expected


def test_every_wrong_place_is_named_at_once() -> None:
    raw = {
        **MINIMAL,
        "model": {"encoder": {"type": "mpl"}, "posterior": {"type": "gaussian", "latent_dim": -3}, "decoder": {"type": "mlp", "hiden": 3}},
        "training": {"optimizer": {"type": "adam", "lr": -1}},
    }  # fmt: skip
    lines = message(raw).splitlines()
    assert lines[0] == "pipeline: 4 errors"
    assert lines[1].startswith("  model.encoder: unknown encoder type 'mpl', did you mean 'mlp'?; installed: ")
    assert lines[2] == "  model.posterior.latent_dim: expected greater than 0 or expected a list, found -3"
    assert (
        lines[3]
        == "  model.decoder.hiden: unknown field, did you mean 'hidden'?; allowed: type, hidden, activation, likelihood"
    )
    assert lines[4] == "  training.optimizer.lr: expected greater than 0, found -1"


def test_a_schedule_longer_than_the_run_is_an_error() -> None:
    raw = {**MINIMAL, "objective": {"type": "elbo", "rate_weight": {"type": "linear", "until_epoch": 9}}}
    assert message(raw, "training.epochs=8") == (
        "pipeline: 1 error\n  objective.rate_weight: the schedule reaches its end after 9 epochs, but training.epochs "
        "is 8, so the final value is never used; shorten the schedule or train longer"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: a\nname: b\n", "not valid YAML at line 2, column 1: the key 'name' is given twice"),
        ("- 1\n", "expected a mapping with name, data, model …, found list"),
        ("a: [1\n", "not valid YAML at line 2, column 1: expected ',' or ']', but got '<stream end>'"),
        ("a: !!python/object/apply:os.system [ls]\n", "not valid YAML at line 1, column 4: could not determine a constructor for the tag 'tag:yaml.org,2002:python/object/apply:os.system'"),
        ("? [1, 2]\n: 3\n", "not valid YAML at line 1, column 3: a key must be a word"),
    ],
)  # fmt: skip
def test_unreadable_files(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value) == f"{path}: {expected}"


def test_missing_file_lists_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "mnist.yaml").write_text("")
    with pytest.raises(ConfigError, match=r"nmist\.yaml: no such file; in that folder: mnist\.yaml"):
        load_config(tmp_path / "nmist.yaml")
