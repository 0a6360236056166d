"""Discovery: what loads, what does not and why, and that nothing else goes down with it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from types import ModuleType, SimpleNamespace
from typing import Any, Literal

import pytest
from uncollapse.config import BuildContext, ComponentConfig, PriorConfig, ScheduleConfig
from uncollapse.errors import PluginError
from uncollapse.findings import Condition
from uncollapse.plugins import API_VERSION, PluginInfo, Registry, hookimpl, load_registry
from uncollapse.plugins.manager import DISABLE


def hook(result: Any) -> Callable[[], Any]:
    @hookimpl
    def uncollapse_components() -> Any:
        if isinstance(result, BaseException):
            raise result
        return result

    return uncollapse_components


@dataclass
class Point:
    """An entry point as ``importlib.metadata`` gives it; ``loads`` is what loading it returns or raises."""

    name: str
    loads: Any
    version: str = "1.2"

    @property
    def value(self) -> str:
        return f"{self.name}_package.plugin"

    @property
    def dist(self) -> Any:
        return SimpleNamespace(name=f"uncollapse-{self.name}", version=self.version)

    def load(self) -> Any:
        if isinstance(self.loads, BaseException):
            raise self.loads
        return self.loads


def module(*components: Any, version: Any = API_VERSION, **attributes: Any) -> Any:
    """Return what a plugin's module looks like."""
    made = bare_module(uncollapse_components=hook(list(components)))
    vars(made).update({"uncollapse_api_version": version, **attributes})
    return made


def bare_module(**attributes: Any) -> Any:
    made = ModuleType("plugin")
    vars(made).update({"uncollapse_api_version": API_VERSION, **attributes})
    return made


def load(*points: Point) -> Registry:
    return load_registry(points)  # type: ignore[arg-type]


def error_of(point: Point) -> str | None:
    """Load a broken plugin between two sound ones; return its error, having checked that the others load."""
    registry = load(Point("aaa", module(Aaa)), point, Point("zzz", module(Zzz)))
    assert registry.find("schedule", "aaa.constant") is Aaa
    assert registry.find("schedule", "zzz.constant") is Zzz
    assert registry.find("prior", "standard_normal") is not None
    broken = [p for p in registry.plugins if p.name == point.name][-1]
    assert broken.components == []
    assert broken.distribution == f"uncollapse-{point.name}"
    assert not [n for k in ("schedule", "prior") for n in registry.names(k) if n.startswith(f"{point.name}.")]
    return broken.error


class Aaa(ScheduleConfig):
    """A constant."""

    type: Literal["aaa.constant"] = "aaa.constant"

    def epochs(self) -> float:
        return 0.0

    def build(self, context: BuildContext) -> Any:
        return lambda progress: 1.0


class Zzz(Aaa):
    """A constant."""

    type: Literal["zzz.constant"] = "zzz.constant"  # type: ignore[assignment]


class Good(Aaa):
    """A constant."""

    type: Literal["mine.constant"] = "mine.constant"  # type: ignore[assignment]


class Twin(Aaa):
    """Another constant of the same name."""

    type: Literal["mine.constant"] = "mine.constant"  # type: ignore[assignment]


class WrongPrefix(Aaa):
    """A constant."""

    type: Literal["yours.constant"] = "yours.constant"  # type: ignore[assignment]


class NoPrefix(Aaa):
    """A constant."""

    type: Literal["constant2"] = "constant2"  # type: ignore[assignment]


class TwoDots(Aaa):
    """A constant."""

    type: Literal["mine.a.b"] = "mine.a.b"  # type: ignore[assignment]


class NotLiteral(Aaa):
    """A constant."""

    type: str = "mine.constant"  # type: ignore[assignment]


class OtherLiteral(Aaa):
    """A constant."""

    type: Literal["mine.constant", "mine.other"] = "mine.constant"  # type: ignore[assignment]


class Number(Aaa):
    """A constant."""

    type: Literal[1] = 1  # type: ignore[assignment]


class NoBuild(PriorConfig):
    """A prior."""

    type: Literal["mine.prior"] = "mine.prior"


class NoEpochs(ScheduleConfig):
    """A schedule."""

    type: Literal["mine.schedule"] = "mine.schedule"

    def build(self, context: BuildContext) -> Any:
        return None


class NoDocstring(Aaa):
    type: Literal["mine.constant"] = "mine.constant"  # type: ignore[assignment]


NoDocstring.__doc__ = None


class NoKind(ComponentConfig):
    """Of no kind."""

    type: Literal["mine.thing"] = "mine.thing"


class InventedKind(ComponentConfig):
    """Of a kind that there is not."""

    kind = "wizard"
    type: Literal["mine.thing"] = "mine.thing"


@hookimpl
def uncollapse_componets() -> list[Any]:
    return []


BROKEN: dict[str, tuple[Any, str]] = {
    "raises on import": (
        ModuleNotFoundError("No module named 'jax'"),
        "importing mine_package.plugin raised ModuleNotFoundError: No module named 'jax'",
    ),
    "exits on import": (SystemExit(3), "importing mine_package.plugin raised SystemExit: 3"),
    "no version": (
        module(Good, version=None),
        "it targets plugin API None, this uncollapse offers 1; the module must set uncollapse_api_version = 1",
    ),
    "other version": (
        module(Good, version=2),
        "it targets plugin API 2, this uncollapse offers 1; update uncollapse, or install an older version of the plugin",
    ),
    "version before the first": (
        module(Good, version=0),
        "it targets plugin API 0, this uncollapse offers 1; the module must set uncollapse_api_version = 1",
    ),
    "no hook": (
        bare_module(),
        "it implements no hook; expected a function uncollapse_components() marked with uncollapse.plugins.hookimpl",
    ),
    "unmarked hook": (
        bare_module(uncollapse_components=lambda: [Good]),
        "it implements no hook; expected a function uncollapse_components() marked with uncollapse.plugins.hookimpl",
    ),
    "misspelt hook": (
        bare_module(uncollapse_componets=uncollapse_componets),
        "it implements the unknown hook 'uncollapse_componets', did you mean 'uncollapse_components'?",
    ),
    "hook raises": (
        module(uncollapse_components=hook(RuntimeError("no GPU"))),
        "its hook raised RuntimeError: no GPU",
    ),
    "hook returns None": (
        module(uncollapse_components=hook(None)),
        "uncollapse_components() must return config classes, found None",
    ),
    "hook returns a number": (
        module(uncollapse_components=hook(7)),
        "uncollapse_components() must return config classes, found int",
    ),
    "not a class": (
        module(Good, "mine.constant"),
        "'mine.constant': expected a subclass of uncollapse.config.ComponentConfig, found 'mine.constant'",
    ),
    "another class": (
        module(dict),
        "dict: expected a subclass of uncollapse.config.ComponentConfig, found <class 'dict'>",
    ),
    "wrong prefix": (
        module(Good, WrongPrefix),
        "WrongPrefix.type: expected 'mine.name' (the plugin's name first), found 'yours.constant'",
    ),
    "no prefix": (module(NoPrefix), "NoPrefix.type: expected 'mine.name' (the plugin's name first), found 'constant2'"),
    "two dots": (module(TwoDots), "TwoDots.type: expected 'mine.name' (the plugin's name first), found 'mine.a.b'"),
    "not literal": (
        module(NotLiteral),
        'NotLiteral.type: expected `type: Literal["name"] = "name"`, found annotation <class \'str\'> with default '
        "'mine.constant'",
    ),
    "two literals": (
        module(OtherLiteral),
        'OtherLiteral.type: expected `type: Literal["name"] = "name"`, found annotation '
        "typing.Literal['mine.constant', 'mine.other'] with default 'mine.constant'",
    ),
    "a number": (
        module(Number),
        'Number.type: expected `type: Literal["name"] = "name"`, found annotation typing.Literal[1] with default 1',
    ),
    "no build": (
        module(NoBuild),
        "NoBuild: build is not implemented; expected build(self, context: 'BuildContext') -> 'nn.Module'",
    ),
    "no epochs": (
        module(NoEpochs),
        "NoEpochs: epochs is not implemented; expected build(self, context: 'BuildContext') -> 'Schedule'",
    ),
    "no docstring": (
        module(NoDocstring),
        "NoDocstring: expected a docstring that says what it does and where it comes from",
    ),
    "the same twice": (
        module(Good, Twin),
        f"Twin.type: schedule 'mine.constant' is taken by {__name__}.Good",
    ),
}


@pytest.mark.parametrize(("loads", "reason"), BROKEN.values(), ids=BROKEN)
def test_broken_plugin_says_why_and_takes_nothing_down(loads: Any, reason: str) -> None:
    assert error_of(Point("mine", loads)) == reason


@pytest.mark.parametrize(("config", "kind"), [(NoKind, "''"), (InventedKind, "'wizard'")])
def test_kind_must_be_one_that_exists(config: type[ComponentConfig], kind: str) -> None:
    error = error_of(Point("mine", module(config)))
    assert error is not None
    assert error.startswith(f"{config.__name__}: expected a subclass of one of DataConfig, EncoderConfig, ")
    assert error.endswith(f"; found kind {kind}")


def test_second_plugin_of_a_name_is_refused_and_the_first_works() -> None:
    registry = load(Point("mine", module(Good)), Point("mine", module(Good), version="9"))
    first, second = [p for p in registry.plugins if p.name == "mine"]
    assert first.error is None
    assert second.error == "another installed distribution already provides a plugin named 'mine'"
    assert registry.find("schedule", "mine.constant") is Good


def test_a_plugin_cannot_call_itself_core() -> None:
    registry = load(Point("core", module(NoPrefix)))
    assert registry.plugins[1].error == "another installed distribution already provides a plugin named 'core'"
    assert registry.find("schedule", "constant2") is None


def test_a_sound_plugin() -> None:
    registry = load(Point("mine", module(Good)))
    core, mine = registry.plugins
    assert (core.name, core.distribution, core.error) == ("core", "uncollapse", None)
    assert ("prior", "standard_normal") in core.components
    assert mine == PluginInfo("mine", "uncollapse-mine", "1.2", [("schedule", "mine.constant")])
    assert registry.names("schedule")[-1] == "mine.constant"
    assert registry.components("schedule")[-1] is Good
    assert registry.get("mine.constant") is Good


def test_components_of_all_kinds_are_listed() -> None:
    registry = load()
    listed = registry.components()
    assert len(listed) == sum(len(p.components) for p in registry.plugins) == len(set(listed))


# ------------------------------------------------------------------------------------------------------------ switches


@pytest.mark.parametrize(
    ("value", "off"),
    [("mine", {"mine"}), (" mine , zzz ", {"mine", "zzz"}), ("all", {"aaa", "mine", "zzz"}), ("", set())],
)
def test_plugins_are_switched_off_by_the_environment(
    value: str, off: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DISABLE, value)
    registry = load(Point("aaa", module(Aaa)), Point("mine", module(Good)), Point("zzz", module(Zzz)))
    assert {p.name for p in registry.plugins if p.disabled} == off
    assert all(p.error is None for p in registry.plugins)
    assert {n.partition(".")[0] for n in registry.names("schedule") if "." in n} == {"aaa", "mine", "zzz"} - off
    assert registry.find("prior", "standard_normal") is not None


def test_a_plugin_that_is_switched_off_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DISABLE, "mine")
    plugin = load(Point("mine", RuntimeError("imported"))).plugins[1]
    assert plugin.disabled
    assert plugin.error is None


def test_installed_entry_points_are_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    names = sorted(p.name for p in entry_points(group="uncollapse") if p.name != "core")
    assert [p.name for p in load_registry().plugins] == ["core", *names]
    monkeypatch.setenv(DISABLE, "all")
    assert all(p.disabled for p in load_registry().plugins[1:])


# -------------------------------------------------------------------------------------------------------- near matches


def message_of(registry: Registry, name: str) -> str:
    with pytest.raises(PluginError) as caught:
        registry.get(name)
    return str(caught.value)


def test_unknown_name_says_what_was_meant() -> None:
    registry = load(Point("mine", module(Good)))
    end = "; `uncollapse plugins` lists all"
    assert message_of(registry, "standard_norml") == (
        f"no installed component is named 'standard_norml', did you mean 'standard_normal'?{end}"
    )
    assert message_of(registry, "zebra") == f"no installed component is named 'zebra'{end}"


def test_name_of_two_kinds_needs_its_kind() -> None:
    registry = load()
    assert registry.get("encoder:mlp").kind == "encoder"
    assert registry.get("decoder:mlp").kind == "decoder"
    assert message_of(registry, "mlp") == (
        "several kinds of component are named 'mlp'; say which: encoder:mlp, decoder:mlp"
    )


def test_unknown_name_of_a_broken_or_absent_plugin_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = load(Point("mine", ImportError("no jax")))
    assert "(plugin 'mine' is broken: importing mine_package.plugin raised ImportError: no jax)" in message_of(
        broken, "mine.constant"
    )
    monkeypatch.setenv(DISABLE, "mine")
    off = load(Point("mine", module(Good)))
    assert f"(plugin 'mine' is switched off by {DISABLE})" in message_of(off, "mine.constant")


# ----------------------------------------------------------------------------------------------------------- real files


def test_a_plugin_on_the_path(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution as pip leaves it: metadata with an entry point, and a module beside it."""
    (tmp_path / "third_party_plugin.py").write_text(
        "from typing import Literal\n"
        "from uncollapse.config import ScheduleConfig\n"
        "from uncollapse.plugins import hookimpl\n"
        "uncollapse_api_version = 1\n"
        "class Half(ScheduleConfig):\n"
        '    """Half."""\n'
        '    type: Literal["third.half"] = "third.half"\n'
        "    def epochs(self): return 0.0\n"
        "    def build(self, context): return lambda progress: 0.5\n"
        "@hookimpl\n"
        "def uncollapse_components(): yield Half\n"
    )
    info = tmp_path / "uncollapse_third-0.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: uncollapse-third\nVersion: 0.3\n")
    (info / "entry_points.txt").write_text("[uncollapse]\nthird = third_party_plugin\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        plugin = next(p for p in load_registry().plugins if p.name == "third")
    finally:
        sys.modules.pop("third_party_plugin", None)
    assert plugin == PluginInfo("third", "uncollapse-third", "0.3", [("schedule", "third.half")])


def _condition(name: str, exit_code: int) -> Condition:
    return Condition(name, exit_code, (), lambda evidence: None, name)


def _conditions(*conditions: Any) -> Any:
    @hookimpl
    def uncollapse_conditions() -> Any:
        return conditions

    return bare_module(uncollapse_conditions=uncollapse_conditions)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (_condition("collapsed", 62), "its condition 'collapsed': 'collapsed' is taken by plugin 'core'"),
        (_condition("mine", 11), "its condition 'mine': 11 is taken by plugin 'core'"),
        (_condition("odd", 61), "its condition 'odd': 'odd' is taken by plugin 'a'"),
        ("odd", "PluginError: uncollapse_conditions() must return uncollapse.findings.Condition, found str"),
    ],
)
def test_a_condition_whose_name_or_code_is_taken_is_left_out(made: Any, why: str) -> None:
    points: list[Any] = [Point("a", _conditions(_condition("odd", 60))), Point("b", _conditions(made))]
    conditions, broken = load_registry(points).conditions()
    assert [c.name for c in conditions] == ["collapsed", "partly collapsed", "odd"]
    assert broken == {"b": why}
