"""Commands for authors of plugins: what they write, what they find, and what they return."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from uncollapse import plugins
from uncollapse.cli import catalogue, main
from uncollapse.plugins import load_registry
from uncollapse.plugins.manager import DISABLE
from uncollapse.plugins.policy import PluginAPI, RenamedHook

PLUGIN = '''\
from typing import Literal

from uncollapse.config import ScheduleConfig
from uncollapse.plugins import hookimpl

uncollapse_api_version = 1


class HalfConfig(ScheduleConfig):
    """Half, as Bowman et al. (2016) might have it, section 3."""

    type: Literal["third.half"] = "third.half"

    def epochs(self):
        return 0.0

    def build(self, context):
        return Half()


class Half:
    def __call__(self, progress):
        return 0.5

    def length(self):
        return 0.0


class GrowingConfig(HalfConfig):
    """Grows for ever, whatever it says [of itself], section 4."""

    type: Literal["third.growing"] = "third.growing"

    def build(self, context):
        return Growing()


class Growing(Half):
    def __call__(self, progress):
        return 1.0 if progress.final else float(progress.step)


@hookimpl
def uncollapse_components():
    return [HalfConfig, GrowingConfig]
'''

Install = Callable[[str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_registry: Callable[[], None]) -> Iterator[Install]:
    """Install a plugin ``third`` with this source, as pip does."""

    def install(source: str) -> None:
        (tmp_path / "third_party_plugin.py").write_text(source)
        info = tmp_path / "Some_Thing-0.3.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Some.Thing\nVersion: 0.3\n")
        (info / "entry_points.txt").write_text("[uncollapse]\nthird = third_party_plugin\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setenv("COLUMNS", "160")
        fresh_registry()

    yield install
    sys.modules.pop("third_party_plugin", None)


def said(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> str:
    capsys.readouterr()
    assert main(argv) == code
    found = capsys.readouterr()
    return found.out + found.err


# ---------------------------------------------------------------------------------------------------------------- check


def test_a_component_that_passes(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(PLUGIN)
    table = said(capsys, "check", "third.half")
    assert "third (Some.Thing 0.3)" in table
    assert "schedule third.half" in table
    assert "schedule_final_value" in table
    assert "third.growing" not in table
    assert "1 component: 9 passed, 0 failed, 0 skipped" in table


@pytest.mark.parametrize("name", ["third", "some-thing", "Some.Thing", "SOME_THING"])
def test_a_plugin_with_a_fault(name: str, install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(PLUGIN)
    table = said(capsys, "check", name, code=1)
    (row,) = [line for line in table.splitlines() if "failed" in line and "│" in line]
    cells = [cell.strip() for cell in row.split("│")[1:-1]]
    assert cells[:2] == ["schedule_final_value", "failed"]
    assert cells[2].startswith("expected the final value 1 from epoch 0 on, found 0")
    assert "2 components: 17 passed, 1 failed, 0 skipped" in table


def test_json(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(PLUGIN)
    found = json.loads(said(capsys, "check", "third", "--json", code=1))
    assert (found["plugin"], found["distribution"], found["version"]) == ("third", "Some.Thing", "0.3")
    assert (found["passed"], found["error"], found["deprecations"]) == (False, None, [])
    growing, half = found["components"]
    assert (growing["kind"], growing["type"], growing["passed"]) == ("schedule", "third.growing", False)
    assert (half["type"], half["passed"]) == ("third.half", True)
    assert {"name": "schedule_length", "outcome": "passed", "reason": "", "where": ""} in half["checks"]


def test_what_is_skipped_says_why(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    table = said(capsys, "check", "prior:standard_normal")
    (row,) = [line for line in table.splitlines() if "prior_unit_mass" in line]
    assert "passed" in row
    assert "in 2 settings" in row
    table = said(capsys, "check", "encoder:mlp")
    (row,) = [line for line in table.splitlines() if "encoder_ignores_padding" in line]
    assert "skipped" in row
    assert "the data are no texts with padding" in row


def test_a_plugin_that_does_not_load(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install("import no_such_module\n")
    table = said(capsys, "check", "third", code=1)
    assert "loads" in table
    assert "importing third_party_plugin raised ModuleNotFoundError: No module named 'no_such_module'" in table
    found = json.loads(said(capsys, "check", "third", "--json", code=1))
    assert found["components"] == []
    assert "no_such_module" in found["error"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("thrid", "no installed plugin, distribution or component is named 'thrid', did you mean 'third'?"),
        ("third.hafl", "is named 'third.hafl', did you mean 'third.half'?"),
        ("mlp", "several kinds of component are named 'mlp'; say which: encoder:mlp, decoder:mlp"),
    ],
)
def test_names_that_mean_nothing(name: str, reason: str, install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(PLUGIN)
    assert reason in said(capsys, "check", name, code=2)


def test_a_plugin_that_is_switched_off(
    install: Install, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DISABLE, "third")
    install(PLUGIN)
    assert f"plugin 'third' is switched off by {DISABLE}" in said(capsys, "check", "third", code=2)


def test_deprecations_are_listed_with_file_and_line(
    install: Install, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(PLUGIN.replace("uncollapse_components", "uncollapse_parts"))
    api = PluginAPI(version=1, hooks=(RenamedHook("uncollapse_parts", "uncollapse_components", until="0.5"),))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        registry = load_registry(api=api)
        assert registry.plugins
    monkeypatch.setattr(plugins, "registry", lambda: registry)
    monkeypatch.setattr(catalogue, "registry", lambda: registry)
    line = PLUGIN.splitlines().index("@hookimpl") + 1
    notice = (
        f"deprecated: {tmp_path / 'third_party_plugin.py'}:{line}: the hook uncollapse_parts is now "
        "uncollapse_components; the old name stops working in uncollapse 0.5"
    )
    # Deprecated is not wrong: the component passes, and so does the command.
    assert notice in said(capsys, "check", "third.half")
    assert f"  {notice}" in said(capsys, "plugins")
    (found,) = json.loads(said(capsys, "check", "third.half", "--json"))["deprecations"]
    assert (found["file"], found["line"]) == (str(tmp_path / "third_party_plugin.py"), line)


# ----------------------------------------------------------------------------------------------------------- new-plugin


def test_new_plugin_says_what_to_do_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = said(capsys, "new-plugin", "my-norm", "--kind", "moment_transform", "--path", str(tmp_path))
    target = tmp_path / "uncollapse-my-norm"
    assert f"Written to {target}" in told
    assert "uncollapse check my_norm\n" in told
    assert (target / "src" / "uncollapse_my_norm" / "moment_transform.py").exists()


def test_new_plugin_needs_a_kind_that_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "--kind" in said(capsys, "new-plugin", "mine", code=2)
    assert "regulariser" in said(capsys, "new-plugin", "mine", "--kind", "regulariser", code=2)
    assert "expected words of lower-case letters" in said(capsys, "new-plugin", "Mine", "--kind", "prior", code=2)
    assert list(tmp_path.iterdir()) == []
