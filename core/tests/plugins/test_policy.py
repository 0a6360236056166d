"""Deprecations: what is old still works, and its author hears of it at the line where it stands."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from uncollapse.plugins import PluginInfo, Registry, load_registry
from uncollapse.plugins.hooks import Specification
from uncollapse.plugins.policy import API, DeprecatedMember, PluginAPI, RenamedHook

PLUGIN = '''\
"""A plugin of another time."""

from typing import ClassVar, Literal

from uncollapse.config import ScheduleConfig
from uncollapse.plugins import hookimpl

uncollapse_api_version = 1


class Base(ScheduleConfig):
    """What others share."""

    def epochs(self):
        return 0.0

    rising: ClassVar[bool] = False


class Half(Base):
    """Half."""

    type: Literal["third.half"] = "third.half"

    def build(self, context):
        return lambda progress: 0.5


@hookimpl
def uncollapse_parts():
    return [Half]


@hookimpl
def uncollapse_show():
    return {"name": "half"}
'''

HOOKS = (
    RenamedHook("uncollapse_parts", "uncollapse_components", until="0.4"),
    RenamedHook("uncollapse_show", "uncollapse_demo", until="0.5"),
)
RISING = DeprecatedMember("schedule", "rising", "leave it out", until="0.4")

Load = Callable[..., tuple[Registry, PluginInfo]]


def line_of(text: str, source: str = PLUGIN) -> int:
    return source.splitlines().index(text) + 1


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Install a plugin as pip does and load it with a plugin API; warnings are recorded, or raised if asked."""

    def load(api: PluginAPI, source: str = PLUGIN, action: Any = "always") -> tuple[Registry, PluginInfo]:
        (tmp_path / "third_party_plugin.py").write_text(source)
        info = tmp_path / "uncollapse_third-0.3.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: uncollapse-third\nVersion: 0.3\n")
        (info / "entry_points.txt").write_text("[uncollapse]\nthird = third_party_plugin\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        with warnings.catch_warnings():
            warnings.simplefilter(action)
            registry = load_registry(api=api)
            plugin = next(p for p in registry.plugins if p.name == "third")
        return registry, plugin

    yield load
    sys.modules.pop("third_party_plugin", None)


def test_the_policy_s_page_says_what_is() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "plugin_api.md").read_text()
    assert f"now **{API.version}**" in page
    for version in (API.version, *API.older):
        assert f"\n| {version} | " in page
    deprecated = page.partition("| deprecated |")[2].partition("\n\n")[0]
    names = [*(h.old for h in API.hooks), *(m.name for m in API.members)] or ["nothing"]
    assert [name for name in names if f"| {name} |" not in deprecated] == []
    for hook in (n for n in vars(Specification) if n.startswith("uncollapse_")):
        assert f"def {hook}()" in page


def test_a_renamed_hook_still_works_and_is_reported_at_its_line(load: Load, tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        registry, plugin = load(PluginAPI(version=1, hooks=HOOKS))
    assert plugin.error is None
    assert plugin.components == [("schedule", "third.half")]
    assert ("third", {"name": "half"}) in registry.demos()
    file = str(tmp_path / "third_party_plugin.py")
    first, second = plugin.deprecations
    parts = line_of("def uncollapse_parts():") - 1  # The function begins with its decorator.
    assert str(first) == (
        f"{file}:{parts}: the hook uncollapse_parts is now uncollapse_components; the old name stops working in "
        "uncollapse 0.4"
    )
    assert second.line == line_of("def uncollapse_show():") - 1
    assert [(w.category, w.filename, w.lineno, str(w.message)) for w in caught] == [
        (DeprecationWarning, d.file, d.line, d.message) for d in plugin.deprecations
    ]


def test_without_the_entry_an_old_name_is_an_unknown_hook(load: Load) -> None:
    _, plugin = load(PluginAPI(version=1))
    assert plugin.error is not None
    assert plugin.error.startswith("it implements the unknown hook 'uncollapse_parts'")
    assert plugin.deprecations == []


def test_a_plugin_with_both_names_is_called_once_and_not_blamed(load: Load) -> None:
    both = f"{PLUGIN}\n\n@hookimpl\ndef uncollapse_components():\n    return [Half]\n"
    _, plugin = load(PluginAPI(version=1, hooks=HOOKS[:1]), both.replace("uncollapse_show", "uncollapse_demo"))
    assert plugin.components == [("schedule", "third.half")]
    assert plugin.deprecations == []


def test_an_older_version_is_accepted_and_reported_where_it_is_stated(load: Load, tmp_path: Path) -> None:
    source = PLUGIN.replace("uncollapse_parts", "uncollapse_components").replace("uncollapse_show", "uncollapse_demo")
    with warnings.catch_warnings(record=True):
        _, plugin = load(PluginAPI(version=3, older={1: "0.4", 2: "0.6"}), source)
    assert plugin.error is None
    (found,) = plugin.deprecations
    assert (found.file, found.line) == (
        str(tmp_path / "third_party_plugin.py"),
        line_of("uncollapse_api_version = 1"),
    )
    assert found.message == (
        "plugin API 1 is deprecated and will be refused from uncollapse 0.4 on; move to 3 (docs/plugin_api.md says "
        "what changed) and set uncollapse_api_version = 3"
    )


def test_a_version_that_is_neither_is_refused_with_all_that_are_accepted(load: Load) -> None:
    source = PLUGIN.replace("uncollapse_api_version = 1", "uncollapse_api_version = 0")
    with warnings.catch_warnings(record=True):
        _, plugin = load(PluginAPI(version=2, older={1: "0.6"}), source)
    assert plugin.error == (
        "it targets plugin API 0, this uncollapse offers 1 and 2; the module must set uncollapse_api_version = 2"
    )


@pytest.mark.parametrize(
    ("name", "line"),
    [("rising", "    rising: ClassVar[bool] = False"), ("epochs", "    def epochs(self):"), ("type", "")],
)
def test_a_deprecated_member_is_reported_where_the_plugin_defines_it(load: Load, name: str, line: str) -> None:
    line = line or '    type: Literal["third.half"] = "third.half"'
    member = DeprecatedMember("schedule", name, "leave it out", until="0.4")
    with warnings.catch_warnings(record=True):
        _, plugin = load(PluginAPI(version=1, hooks=HOOKS, members=(member,)))
    assert plugin.error is None
    found = plugin.deprecations[-1]
    assert found.line == line_of(line)
    assert found.message == f"Half.{name} is deprecated and will be ignored from uncollapse 0.4 on; leave it out"


@pytest.mark.parametrize("member", [DeprecatedMember("prior", "rising", "", "0.4"), DeprecatedMember("schedule", "kind", "", "0.4")])  # fmt: skip
def test_other_kinds_and_what_the_core_defines_are_not_the_plugin_s_fault(load: Load, member: DeprecatedMember) -> None:
    with warnings.catch_warnings(record=True):
        _, plugin = load(PluginAPI(version=1, hooks=HOOKS, members=(member,)))
    assert len(plugin.deprecations) == len(HOOKS)


def test_a_user_who_makes_warnings_errors_loses_that_plugin_only(load: Load) -> None:
    registry, plugin = load(PluginAPI(version=1, hooks=HOOKS, members=(RISING,)), action="error")
    assert plugin.error is not None
    assert plugin.error.startswith("the hook uncollapse_parts is now uncollapse_components")
    assert plugin.components == []
    assert registry.find("schedule", "third.half") is None
    assert registry.find("schedule", "constant") is not None


def test_a_plugin_without_source_is_reported_by_its_name(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_source(thing: Any) -> Any:
        raise OSError("could not get source code")

    monkeypatch.setattr("inspect.getsourcelines", no_source)
    with warnings.catch_warnings(record=True):
        _, plugin = load(PluginAPI(version=1, hooks=HOOKS))
    assert [(d.file, d.line) for d in plugin.deprecations] == [("third_party_plugin", 1)] * 2
