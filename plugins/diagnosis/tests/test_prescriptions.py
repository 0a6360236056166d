"""Remedies: declared by plugins, ranked, fitted to a pipeline, and written as a new one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml
from command_fixtures import points_of
from uncollapse import Pipeline
from uncollapse.config import merged
from uncollapse.config.load import load_config
from uncollapse.errors import ConfigError, PluginError
from uncollapse.findings import Finding
from uncollapse.plugins import Registry, Remedy, hookimpl, load_registry, registry
from uncollapse_diagnosis import apply, prescribe
from uncollapse_diagnosis.known import declared_remedies

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"

RAW: dict[str, Any] = Pipeline.from_dict(
    {
        "name": "tiny",
        "data": {"type": "digits", "binarize": "dynamic", "limit": 200},
        "model": {
            "encoder": "mlp",
            "posterior": {"type": "gaussian", "latent_dim": 4},
            "decoder": {"type": "pixelcnn", "kernels": [3, 3], "channels": 4},
        },
        "training": {"epochs": 8},
    }
).config.model_dump(mode="json")

TREATED = [c.name for c in registry().conditions()[0]]


def found(condition: Any, units: tuple[int, ...] = ()) -> Finding:
    return Finding(condition, "", units)


@pytest.mark.parametrize("condition", TREATED)
def test_every_condition_has_remedies_that_validate(condition: str) -> None:
    prescriptions = prescribe(found(condition, (1,)), RAW)
    assert prescriptions.ranked
    order = [(p.rank, not p.installed, p.remedy.slowdown) for p in prescriptions.ranked]
    assert order == sorted(order)
    for p in prescriptions.ranked:
        Pipeline.from_dict(merged(RAW, p.fragment))
        assert p.remedy.cost
        assert p.remedy.source


def _decoder(remedy: Remedy) -> str:
    return remedy.needs.get("model.decoder.type", ("pixelcnn",))[0]


IMAGES = [r for _, r in registry().remedies()[0] if _decoder(r) != "lstm"]
TEXTS = [r for _, r in registry().remedies()[0] if _decoder(r) == "lstm"]


@pytest.mark.parametrize("remedy", IMAGES, ids=lambda r: r.name)
def test_every_remedy_of_images_builds(remedy: Remedy) -> None:
    """On a pipeline that has what it needs."""
    raw = merged(RAW, {"model": {"decoder": {"type": _decoder(remedy)}}})
    fragment = remedy.fragment(raw, (1,)) if callable(remedy.fragment) else remedy.fragment
    Pipeline.from_dict(merged(raw, fragment)).build()


@pytest.mark.parametrize("remedy", TEXTS, ids=lambda r: r.name)
def test_every_remedy_of_texts_validates(remedy: Remedy) -> None:
    raw = load_config(EXAMPLES / "text" / "yelp-small.yaml").model_dump(mode="json")
    assert remedy.name in [p.name for p in prescribe(found("decoder ignores z"), raw).ranked]


def test_nothing_treats_health_or_too_few_examples() -> None:
    assert prescribe(found("healthy")).ranked == ()
    assert prescribe(found("not enough data")).ranked == ()


def test_what_does_not_apply_is_left_out_with_the_reason() -> None:
    assert prescribe(found("decoder ignores z"), RAW).left_out["word_dropout"] == (
        "model.decoder.type is 'pixelcnn', and it needs 'lstm' or 'transformer'"
    )
    first = prescribe(found("over-informative"), RAW)
    assert first.left_out["full_rate"] == "the pipeline has it already"
    small = merged(RAW, {"training": {"epochs": 1}, "objective": {"type": "elbo", "rate_weight": 0.01}})
    assert "full_rate" in [p.name for p in prescribe(found("over-informative"), small).ranked]


def test_collapsed_dimensions_are_left_out_by_the_remedy_that_does_so() -> None:
    remedy = next(
        p for p in prescribe(found("partly collapsed", (0, 2, 3)), RAW).ranked if p.name == "fewer_dimensions"
    )
    assert remedy.fragment == {"model": {"posterior": {"latent_dim": 1}}}


def test_a_model_from_elsewhere_gets_fragments_too() -> None:
    for condition in TREATED:
        for p in prescribe(found(condition)).ranked:
            assert p.fragment, p.name


def test_the_list_of_what_pip_could_add_is_what_the_plugins_say() -> None:
    """``python -m uncollapse_diagnosis.known`` writes it anew."""
    from importlib.resources import files

    stored = yaml.safe_load((files("uncollapse_diagnosis") / "known_remedies.yaml").read_text())
    assert stored == declared_remedies()
    assert len(stored["plugins"]) >= 5


def test_plugins_that_are_not_installed_are_prescribed_with_the_command() -> None:
    bare = load_registry(points_of("diagnosis"))
    names = {p.name: p for p in prescribe(found("inference lagging"), RAW, installed=bare).ranked}
    missing = names["baselines.aggressive"]
    assert not missing.installed
    assert missing.install == "pip install uncollapse-baselines"
    assert missing.fragment == {"training": {"strategy": {"type": "baselines.aggressive"}}}
    with pytest.raises(ConfigError, match="it is not installed; install it with: pip install uncollapse-baselines"):
        prescribe(found("inference lagging"), RAW, installed=bare).choose("baselines.aggressive")
    chosen = prescribe(found("inference lagging"), RAW, installed=bare).choose()
    assert chosen.name in ("cyclical_annealing", "kl_annealing")


def _no_components() -> list[Any]:
    return []


@dataclass
class Point:
    """An entry point that leads to a module made here."""

    name: str
    module: ModuleType
    value: str = "stranger"

    @property
    def dist(self) -> Any:
        return SimpleNamespace(name="stranger-distribution", version="1")

    def load(self) -> ModuleType:
        return self.module


def _registry(implementation: Any) -> Registry:
    module = ModuleType("stranger")
    module.uncollapse_api_version = 1  # type: ignore[attr-defined]
    module.uncollapse_components = hookimpl(_no_components)  # type: ignore[attr-defined]
    module.uncollapse_remedies = hookimpl(implementation)  # type: ignore[attr-defined]
    return load_registry([*points_of("diagnosis"), Point("stranger", module)])  # type: ignore[list-item]


def test_a_stranger_s_plugin_takes_part() -> None:
    def uncollapse_remedies() -> list[Remedy]:
        return [
            Remedy(
                name="mine",
                treats={"collapsed": 1},
                fragment={"training": {"epochs": 9}},
                why="w",
                cost="c",
                source="s",
            )
        ]

    first = prescribe(found("collapsed"), RAW, installed=_registry(uncollapse_remedies)).ranked[0]
    assert (first.name, first.distribution, first.installed) == ("stranger.mine", "stranger-distribution", True)


def test_a_broken_plugin_takes_nothing_else_down() -> None:
    def uncollapse_remedies() -> list[Any]:
        raise RuntimeError("no")

    broken = prescribe(found("collapsed"), RAW, installed=_registry(uncollapse_remedies))
    assert broken.left_out["stranger"] == "RuntimeError: no"
    assert any(p.plugin == "diagnosis" for p in broken.ranked)
    wrong = prescribe(found("collapsed"), RAW, installed=_registry(lambda: [{"name": "mine"}]))
    assert "must return uncollapse.plugins.Remedy, found dict" in wrong.left_out["stranger"]


def test_a_remedy_for_a_condition_that_nobody_knows_is_said_to_be_one() -> None:
    @hookimpl
    def uncollapse_remedies() -> list[Remedy]:
        return [Remedy("mine", {"colapsed": 1}, {}, "", "", ""), Remedy("fit", {"healthy": 1}, {}, "", "", "")]

    for condition in ("collapsed", "over-informative"):
        said = prescribe(found(condition), RAW, installed=_registry(uncollapse_remedies)).left_out
        assert "it treats 'colapsed', which is no known condition, did you mean 'collapsed'" in said["stranger.mine"]
        assert "it treats 'healthy', which is no known condition" in said["stranger.fit"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"treats": {"collapsed": 4}}, "ranks are 1 to 3, found 4"),
        ({"name": "a b"}, "letters, digits and underscores"),
    ],
)
def test_a_remedy_that_makes_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {
        "name": "mine", "treats": {"collapsed": 1}, "fragment": {}, "why": "", "cost": "", "source": ""
    }  # fmt: skip
    with pytest.raises(PluginError, match=message):
        Remedy(**{**good, **change})


def test_merging() -> None:
    base = {"a": {"type": "x", "k": 1, "n": {"p": 1}}, "l": [{"type": "r", "w": 1}], "s": [1, 2]}
    assert merged(base, {"a": {"k": 2}})["a"] == {"type": "x", "k": 2, "n": {"p": 1}}
    assert merged(base, {"a": {"type": "x", "n": {"q": 2}}})["a"]["n"] == {"p": 1, "q": 2}
    assert merged(base, {"a": {"type": "y"}})["a"] == {"type": "y"}
    assert merged(base, {"l": [{"type": "r", "v": 2}, {"type": "t"}]})["l"] == [
        {"type": "r", "w": 1, "v": 2},
        {"type": "t"},
    ]
    assert merged(base, {"s": [3]})["s"] == [3]
    assert merged({"d": {"type": "x", "likelihood": "g"}}, {"d": {"type": "y"}})["d"] == {
        "type": "y",
        "likelihood": "g",
    }
    assert base == {"a": {"type": "x", "k": 1, "n": {"p": 1}}, "l": [{"type": "r", "w": 1}], "s": [1, 2]}


def test_applying_writes_a_pipeline_and_overwrites_none(tmp_path: Path) -> None:
    chosen = prescribe(found("collapsed"), RAW).choose("free_bits")
    path = apply(chosen, RAW, tmp_path / "healed.yaml")
    config = load_config(path)
    assert (config.name, config.description) == ("tiny-free_bits", chosen.remedy.why)
    assert config.objective.model_dump()["free_bits"] == {"nats": 0.25, "variant": "batch_per_dimension"}
    before = path.read_text()
    with pytest.raises(ConfigError, match="exists already, and nothing is overwritten"):
        apply(chosen, RAW, path)
    assert path.read_text() == before


def test_choosing_says_what_there_is() -> None:
    prescriptions = prescribe(found("decoder ignores z"), RAW)
    with pytest.raises(ConfigError, match="no remedy has that name, did you mean 'factorized_decoder'"):
        prescriptions.choose("factorised_decoder")
    with pytest.raises(ConfigError, match=r"it does not apply to this pipeline: model\.decoder\.type is 'pixelcnn'"):
        prescriptions.choose("word_dropout")
