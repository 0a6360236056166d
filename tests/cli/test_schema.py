"""The JSON schema accepts what the loader accepts, and refuses what an editor can know to be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import Field
from uncollapse.cli import main
from uncollapse.config import BuildContext, ScheduleConfig
from uncollapse.config.load import dump_config, parse_config
from uncollapse.config.schema import component_schema, pipeline_schema
from uncollapse.plugins import registry

jsonschema = pytest.importorskip("jsonschema", reason="checks the schema with the package jsonschema")

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(
    p
    for p in (*ROOT.glob("examples/**/*.y*ml"), *ROOT.glob("plugins/*/src/**/*.y*ml"))
    # Somebody else's, of components that are not installed here; tests/test_third_party.py trains it.
    if "third_party" not in p.parts
    # Fragments, not pipelines; the diagnosis's tests try them.
    and p.name != "known_remedies.yaml"
)

TINY: dict[str, Any] = {
    "name": "tiny",
    "data": {"type": "digits"},
    "model": {"encoder": "mlp", "posterior": {"type": "gaussian", "latent_dim": 2}, "decoder": {"type": "mlp"}},
}


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = pipeline_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def problems(validator: Any, pipeline: Any) -> list[str]:
    return [error.message for error in validator.iter_errors(pipeline)]


@pytest.mark.parametrize("path", EXAMPLES, ids=[str(p.relative_to(ROOT)) for p in EXAMPLES])
def test_examples_are_valid(path: Path, validator: Any) -> None:
    assert problems(validator, yaml.safe_load(path.read_text(encoding="utf-8"))) == []


def test_there_are_examples() -> None:
    assert EXAMPLES


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"objective": "elbo"},
        {"objective": {"type": "elbo", "rate_weight": 0.5}},
        {"objective": {"type": "elbo", "rate_weight": {"type": "linear", "until_epoch": 3}}},
        {"regularizers": []},
        {"training": {"optimizer": {"type": "adam", "lr": 1e-3}, "learning_rate": None}},
        {"evaluation": {"estimators": ["elbo", {"type": "nll", "samples": 5}], "probes": [{"type": "knn"}]}},
    ],
)
def test_what_the_loader_accepts_is_valid_as_written_and_resolved(changes: dict[str, Any], validator: Any) -> None:
    raw = {**TINY, **changes}
    assert problems(validator, raw) == []
    assert problems(validator, yaml.safe_load(dump_config(parse_config(raw)))) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"data": {"type": "digit"}},
        {"data": {"batch_size": 3}},
        {"data": "arrays"},
        {"data": {"type": "digits", "batch_sise": 3}},
        {"data": {"type": "digits", "batch_size": 0}},
        {"objective": {"type": "elbo", "rate_weight": "much"}},
        {"objective": 3},
        {"model": {**TINY["model"], "posterior": {"type": "gaussian"}}},
        {"model": {**TINY["model"], "prior": "gaussian"}},
        {"training": {"epoch": 3}},
        {"regularizers": {"type": "x"}},
        {"nonsense": 1},
        {"training": {"observers": ["nothing"]}},
    ],
)
def test_what_is_wrong_is_invalid(changes: dict[str, Any], validator: Any) -> None:
    assert problems(validator, {**TINY, **changes}) != []


def test_a_number_stands_for_a_component_only_where_the_loader_takes_one(validator: Any) -> None:
    assert problems(validator, {**TINY, "model": {**TINY["model"], "encoder": 3}}) != []


def test_every_installed_component_is_described(validator: Any) -> None:
    definitions = validator.schema["$defs"]
    for config in registry().components():
        choices = definitions[f"kind.{config.kind}"].get("oneOf", [])
        described = [definitions[c["$ref"].rpartition("/")[2]] for c in choices if "$ref" in c]
        (own,) = [d for d in described if d["properties"]["type"]["const"] == config.type_name()]
        assert set(own["properties"]) == set(config.model_fields)
        assert own["required"][0] == "type"
        assert own["description"]


def test_all_references_lead_somewhere(validator: Any) -> None:
    text = json.dumps(validator.schema)
    assert "x-uncollapse" not in text
    definitions = validator.schema["$defs"]

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if "$ref" in node:
                assert node["$ref"].removeprefix("#/$defs/") in definitions
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(validator.schema)


class StrangeSchedule(ScheduleConfig):
    """A schedule with a field that JSON schema cannot express."""

    type: str = "strange"
    call: object = Field(default=print)
    kind_of: type = int

    def epochs(self) -> float:
        return 0

    def build(self, context: BuildContext) -> Any:
        return None


def test_a_component_that_cannot_be_described_hides_no_other() -> None:
    schema = component_schema(StrangeSchedule)
    assert schema["properties"] == {"type": {"const": "strange"}}


def test_the_command_writes_the_schema(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["schema"]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed) == pipeline_schema()
    assert main(["schema", "--output", "pipeline.schema.json"]) == 0
    assert Path("pipeline.schema.json").read_text(encoding="utf-8") == printed
    assert capsys.readouterr().out == (
        "Written to pipeline.schema.json. Editors with a YAML language server read it from a first line such as\n"
        "# yaml-language-server: $schema=pipeline.schema.json\n"
    )
