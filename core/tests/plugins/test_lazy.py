"""References: what is imported when, and that every check still holds by the time that a component is handed out."""

from __future__ import annotations

import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from uncollapse.errors import ConfigError, PluginError
from uncollapse.pipeline import Pipeline
from uncollapse.plugins import DISABLE, Lazy, PluginInfo, Registry, load_registry
from uncollapse.plugins.policy import API, DeprecatedMember, PluginAPI
from uncollapse.plugins.validation import unprefixed

PARTS = '''\
from typing import ClassVar, Literal

from uncollapse.config import PriorConfig, ScheduleConfig


class Half(ScheduleConfig):
    """Half."""

    type: Literal["{plugin}half"] = "{plugin}half"
    rising: ClassVar[bool] = False

    def epochs(self):
        return 0.0

    def build(self, context):
        return lambda progress: 0.5


class Third(Half):
    """A third."""

    type: Literal["{plugin}third"] = "{plugin}third"


class Unbuilt(PriorConfig):
    """A prior that nobody can build."""

    type: Literal["{plugin}prior"] = "{plugin}prior"


something = 7
'''

ENTRY = """\
from uncollapse.plugins import Lazy, hookimpl

uncollapse_api_version = 1


@hookimpl
def uncollapse_components():
    return [{references}]
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a plugin as pip does: metadata, an entry module of references, and a module of parts beside it."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(
        name: str = "mine", *references: str, distribution: str | None = None, prefix: str | None = None
    ) -> None:
        plugin = f"{name}." if prefix is None else prefix
        made = references or (f'Lazy("schedule", "{plugin}half", "lazy_{name}_parts:Half")',)
        (tmp_path / f"lazy_{name}.py").write_text(ENTRY.format(references=", ".join(made)))
        (tmp_path / f"lazy_{name}_parts.py").write_text(PARTS.replace("{plugin}", plugin))
        info = tmp_path / f"uncollapse_{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution or f'uncollapse-{name}'}\nVersion: 1.0\n"
        )
        (info / "entry_points.txt").write_text(f"[uncollapse]\n{name} = lazy_{name}\n")

    yield install
    for module in [m for m in sys.modules if m.startswith("lazy_")]:
        del sys.modules[module]


def imported() -> set[str]:
    return {module for module in sys.modules if module.startswith("lazy_")}


def plugin_of(registry: Registry, name: str = "mine") -> PluginInfo:
    return next(p for p in registry.installed if p.name == name)


# --------------------------------------------------------------------------------------------------- imported when asked


def test_metadata_are_read_and_nothing_is_imported(install: Install) -> None:
    install()
    info = plugin_of(load_registry())
    assert (info.distribution, info.version, info.components, info.error) == ("uncollapse-mine", "1.0", [], None)
    assert imported() == set()


def test_only_the_plugin_that_is_named_is_imported_and_only_the_part(install: Install) -> None:
    install("mine")
    install("other")
    registry = load_registry()
    assert registry.find("prior", "standard_normal") is not None
    assert imported() == set()
    found = registry.find("schedule", "mine.half")
    assert found is not None
    assert found.type_name() == "mine.half"
    assert imported() == {"lazy_mine", "lazy_mine_parts"}
    assert registry.home(found).name == "mine"
    assert registry.find("prior", "other.half") is None
    assert imported() == {"lazy_mine", "lazy_mine_parts", "lazy_other"}


def test_names_and_contributions_read_references_and_import_no_part(install: Install) -> None:
    install()
    registry = load_registry()
    assert "mine.half" in registry.names("schedule")
    registry.demos()
    assert imported() == {"lazy_mine"}
    assert ("schedule", "mine.half") in plugin_of(registry).components


def test_listing_all_components_or_plugins_imports_all(install: Install) -> None:
    install()
    assert "mine.half" in [c.type_name() for c in load_registry().components("schedule")]
    assert imported() == {"lazy_mine", "lazy_mine_parts"}
    del sys.modules["lazy_mine_parts"]
    assert [p.error for p in load_registry().plugins if p.error] == []
    assert imported() == {"lazy_mine", "lazy_mine_parts"}


def test_a_component_of_any_kind_is_found_by_its_name(install: Install) -> None:
    install("mine")
    install("other")
    assert load_registry().get("mine.half").kind == "schedule"
    assert imported() == {"lazy_mine", "lazy_mine_parts"}


def test_a_plugin_may_ask_for_components_while_it_is_imported(install: Install, tmp_path: Path) -> None:
    install()
    registry = load_registry()
    sys.modules["lazy_registry"] = registry  # type: ignore[assignment]
    (tmp_path / "lazy_mine.py").write_text(
        "from lazy_registry import find, names\n"
        "seen = names('schedule'), find('schedule', 'mine.half')\n" + (tmp_path / "lazy_mine.py").read_text()
    )
    assert registry.find("schedule", "mine.half") is not None
    names, found = sys.modules["lazy_mine"].seen
    assert "constant" in names
    assert found is None


def test_threads_that_ask_at_once_get_the_same_class(install: Install, tmp_path: Path) -> None:
    install()
    slow = tmp_path / "lazy_mine.py"
    slow.write_text(f"import time\ntime.sleep(0.2)\n{slow.read_text()}")
    registry = load_registry()
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(registry.find("schedule", "mine.half"))) for _ in range(4)]
    for thread in threads:
        thread.start()
        time.sleep(0.02)
    for thread in threads:
        thread.join()
    assert found == [registry.find("schedule", "mine.half")] * 4
    assert found[0] is not None


# ------------------------------------------------------------------------------------------------------- what is refused


BROKEN = {
    "no such module": (
        'Lazy("schedule", "mine.half", "lazy_mine_gone:Half")',
        "schedule 'mine.half': importing lazy_mine_gone:Half raised ModuleNotFoundError: No module named "
        "'lazy_mine_gone'",
    ),
    "no such name": (
        'Lazy("schedule", "mine.half", "lazy_mine_parts:Hafl")',
        "schedule 'mine.half': importing lazy_mine_parts:Hafl raised AttributeError: module 'lazy_mine_parts' has no "
        "attribute 'Hafl'",
    ),
    "no config": (
        'Lazy("schedule", "mine.half", "lazy_mine_parts:something")',
        "7: expected a subclass of uncollapse.config.ComponentConfig, found 7",
    ),
    "another type": (
        'Lazy("schedule", "mine.half", "lazy_mine_parts:Third")',
        "lazy_mine_parts:Third: it was announced as the schedule 'mine.half', and is the schedule 'mine.third'",
    ),
    "another kind": (
        'Lazy("prior", "mine.half", "lazy_mine_parts:Half")',
        "lazy_mine_parts:Half: it was announced as the prior 'mine.half', and is the schedule 'mine.half'",
    ),
    "a class that is not sound": (
        'Lazy("prior", "mine.prior", "lazy_mine_parts:Unbuilt")',
        "Unbuilt: build is not implemented; expected build(self, context: 'BuildContext') -> 'nn.Module'",
    ),
    "unknown kind": (
        'Lazy("shedule", "mine.half", "lazy_mine_parts:Half")',
        "lazy_mine_parts:Half: unknown kind 'shedule', did you mean 'schedule'?",
    ),
    "no prefix": (
        'Lazy("schedule", "half", "lazy_mine_parts:Half")',
        "lazy_mine_parts:Half.type: expected 'mine.name' (the plugin's name first), found 'half'",
    ),
    "no path": (
        'Lazy("schedule", "mine.half", "lazy_mine_parts.Half")',
        "expected a path 'package.module:ClassConfig', found 'lazy_mine_parts.Half'",
    ),
    "the same twice": (
        'Lazy("schedule", "mine.half", "lazy_mine_parts:Half"), Lazy("schedule", "mine.half", "lazy_mine_parts:Third")',
        "lazy_mine_parts:Third.type: schedule 'mine.half' is taken by lazy_mine_parts:Half",
    ),
}


@pytest.mark.parametrize(("references", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_reference_is_said_where_it_is_needed_and_in_the_list(
    install: Install, references: str, reason: str
) -> None:
    install("mine", 'Lazy("schedule", "mine.third", "lazy_mine_parts:Third")', references)
    install("other")
    listed = load_registry()
    error = next(p for p in listed.plugins if p.name == "mine").error
    assert error is not None
    assert reason in error
    assert plugin_of(listed).components == []
    # All or none: the sound component goes, too; other plugins stay.
    assert listed.find("schedule", "mine.third") is None
    assert listed.find("schedule", "other.half") is not None

    asked = load_registry()
    for kind in ("schedule", "prior"):
        for name in ("mine.half", "mine.prior"):
            assert asked.find(kind, name) is None
    assert f"(plugin 'mine' is broken: {plugin_of(asked).error})" in asked.unknown("schedule", "mine.half")
    assert reason in str(plugin_of(asked).error)
    assert "mine.third" not in asked.names("schedule")


def test_a_plugin_that_exits_when_its_part_is_imported_takes_nothing_down(install: Install, tmp_path: Path) -> None:
    install()
    (tmp_path / "lazy_mine_parts.py").write_text("raise SystemExit(3)\n")
    registry = load_registry()
    assert registry.find("schedule", "mine.half") is None
    assert plugin_of(registry).error == "schedule 'mine.half': importing lazy_mine_parts:Half raised SystemExit: 3"


def test_what_a_part_deprecates_is_reported_when_it_is_imported(install: Install, tmp_path: Path) -> None:
    install()
    member = DeprecatedMember("schedule", "rising", "leave it out", until="0.4")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        registry = load_registry(api=PluginAPI(version=API.version, members=(member,)))
        registry.names("schedule")
        assert plugin_of(registry).deprecations == []
        registry.find("schedule", "mine.half")
        registry.find("schedule", "mine.half")
    (found,) = plugin_of(registry).deprecations
    line = PARTS.replace("{plugin}", "mine.").splitlines().index("    rising: ClassVar[bool] = False") + 1
    assert (found.file, found.line) == (str(tmp_path / "lazy_mine_parts.py"), line)
    assert [(w.filename, w.lineno) for w in caught if w.category is DeprecationWarning] == [(found.file, found.line)]


# ------------------------------------------------------------------------------------------------------ without a prefix


@pytest.fixture
def owned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a distribution of ours, ``mine``, own the schedule ``half``."""
    for module in ("validation", "manager"):
        monkeypatch.setattr(f"uncollapse.plugins.{module}.unprefixed", lambda: {"mine": {"schedule": ["half"]}})


@pytest.mark.usefixtures("owned")
def test_the_owner_brings_its_type_without_a_prefix_and_is_imported_for_it_alone(install: Install) -> None:
    install("mine", prefix="")
    registry = load_registry()
    assert registry.find("schedule", "constant") is not None
    assert registry.find("prior", "half") is None
    assert imported() == set()
    assert registry.find("schedule", "half") is not None
    assert registry.get("half").type_name() == "half"


@pytest.mark.usefixtures("owned")
def test_the_owner_needs_the_prefix_for_any_other_type(install: Install) -> None:
    install("mine", 'Lazy("schedule", "third", "lazy_mine_parts:Third")', prefix="")
    registry = load_registry()
    assert registry.find("schedule", "half") is None
    assert plugin_of(registry).error == (
        "lazy_mine_parts:Third.type: expected 'mine.name' (the plugin's name first), found 'third'"
    )


@pytest.mark.usefixtures("owned")
@pytest.mark.parametrize(("name", "distribution"), [("other", None), ("mine", "somebody-else")])
def test_nobody_else_brings_it(install: Install, name: str, distribution: str | None) -> None:
    install(name, distribution=distribution, prefix="")
    error = next(p for p in load_registry().plugins if p.name == name).error
    assert error == f"lazy_{name}_parts:Half.type: expected '{name}.name' (the plugin's name first), found 'half'"


@pytest.mark.usefixtures("owned")
def test_a_type_whose_owner_is_not_installed_says_what_to_install() -> None:
    registry = load_registry()
    part = "it is part of uncollapse-mine; pip install 'uncollapse[mine]'"
    assert registry.unknown("schedule", "half") == f"schedule 'half' is not installed: {part}"
    with pytest.raises(PluginError) as caught:
        registry.get("half")
    assert str(caught.value) == f"schedule 'half' is not installed: {part}"


@pytest.mark.usefixtures("owned")
def test_a_type_whose_owner_is_switched_off_says_so(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("mine", prefix="")
    monkeypatch.setenv(DISABLE, "mine")
    assert load_registry().unknown("schedule", "half").endswith(f" (plugin 'mine' is switched off by {DISABLE})")


def test_an_unknown_prefix_says_that_no_such_plugin_is_installed() -> None:
    said = load_registry().unknown("schedule", "my_own.half")
    assert said.startswith("unknown schedule type 'my_own.half'; installed: constant, ")
    assert said.endswith(" (no plugin 'my_own' is installed; its distribution is usually called uncollapse-my_own)")


def test_the_core_s_types_belong_to_nobody_else() -> None:
    registry = load_registry([])
    registry.names("schedule")
    core = plugin_of(registry, "core")
    taken = [(kind, name) for kinds in unprefixed().values() for kind, names in kinds.items() for name in names]
    assert len(taken) == len(set(taken))
    assert set(taken).isdisjoint(core.components)


def test_a_reference_is_checked_when_it_is_written() -> None:
    with pytest.raises(PluginError, match=r"expected a path 'package.module:ClassConfig', found 'package.module'"):
        Lazy("schedule", "mine.half", "package.module")


def test_metadata_without_the_core_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        entry_points = ()

    monkeypatch.setattr("uncollapse.plugins.manager.distribution", lambda name: Old())
    with pytest.raises(PluginError, match="do not name its own parts; install uncollapse anew"):
        load_registry()


def test_a_pipeline_says_what_is_missing() -> None:
    with pytest.raises(
        ConfigError, match=r"objective: unknown objective type 'nowhere.elbo'.*no plugin 'nowhere' is installed"
    ):
        Pipeline.from_dict(
            {
                "name": "x",
                "data": "digits",
                "model": {"encoder": "mlp", "posterior": {"type": "gaussian", "latent_dim": 2}, "decoder": "mlp"},
                "objective": "nowhere.elbo",
            }
        )
