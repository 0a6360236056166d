"""No circles, and imports that point down: read from the sources, in every way that one module can name another."""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest
from structure import ROOT, Import, Sources, circles, distributions, floors, upward

CORE = ROOT / "core" / "src"


@cache
def everything() -> Sources:
    return Sources(source for source, _ in distributions().values())


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert [" <-> ".join(circle) for circle in circles(everything().graph())] == []


def test_the_core_s_imports_point_down() -> None:
    assert upward(Sources([CORE]), floors()["core"]) == []


def test_every_floor_is_there() -> None:
    modules = Sources([CORE]).paths
    assert [name for floor in floors()["core"] for name in floor if name not in modules] == []
    assert set(floors()["parts"]) <= {name for floor in floors()["core"] for name in floor}  # type: ignore[comparison-overlap]


def inside(module: str, names: list[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in names)


def test_what_drives_the_parts_knows_none_of_them_by_name() -> None:
    """Concrete parts are found through the registry, by everything in the core that is not a part itself."""
    sources, parts = Sources([CORE]), floors()["parts"]
    knows = [
        str(found)
        for found in sources.imports()
        if (target := sources.reached(found)) is not None
        and inside(target, parts)  # type: ignore[arg-type]
        and not inside(found.source, [*parts, "uncollapse.builtin"])  # type: ignore[list-item]
    ]
    assert knows == []


# ------------------------------------------------------------------------------------------------------- shown to fail


WAYS = {
    "at the top": "from pack.{} import x\n",
    "relative": "from .{} import x\n",
    "a whole module": "import pack.{}\n",
    "for type checkers": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .{} import x\n",
    "inside a function": "def f():\n    from . import {}\n",
    "in a string": "PATH = 'pack.{}:x'\n",
    "through the package": "from . import {}\n",
}


def planted(folder: Path, **modules: str) -> Sources:
    package = folder / "pack"
    package.mkdir()
    (package / "__init__.py").write_text("from .low import x\n")
    for name, text in modules.items():
        (package / f"{name}.py").write_text(text)
    return Sources([folder])


@pytest.mark.parametrize("way", WAYS)
def test_a_planted_circle_is_found(way: str, tmp_path: Path) -> None:
    sources = planted(
        tmp_path, low=WAYS[way].format("high"), middle="from .low import x\n", high="from .middle import x\n"
    )
    assert circles(sources.graph()) == [["pack.high", "pack.low", "pack.middle"]]


@pytest.mark.parametrize("way", WAYS)
def test_a_planted_import_from_above_is_found(way: str, tmp_path: Path) -> None:
    sources = planted(tmp_path, low=WAYS[way].format("high"), high="x = 1\n")
    table = [["pack.low"], ["pack.high"], ["pack"]]
    (found,) = upward(sources, table)
    assert found.startswith("pack.low:")
    assert circles(sources.graph()) == []


def test_a_module_that_asks_its_own_package_is_in_a_circle(tmp_path: Path) -> None:
    sources = planted(tmp_path, low="from pack import x\n")
    assert circles(sources.graph()) == [["pack", "pack.low"]]


def test_a_module_without_a_floor_is_found(tmp_path: Path) -> None:
    assert upward(planted(tmp_path, low="", high=""), [["pack.low"], ["pack"]]) == ["pack.high: on no floor"]


# -------------------------------------------------------------------------------------------------- from one to another


@cache
def public_names(module: str) -> frozenset[str]:
    """Return ``__all__`` of a module, as written."""
    path = everything().paths.get(module)
    if path is None:
        return frozenset()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(t, ast.Name) and t.id == "__all__" for t in targets):
            return frozenset(ast.literal_eval(node.value))  # type: ignore[attr-defined]
    return frozenset()


COMMANDS = ("uncollapse.cli.options", "uncollapse.cli.runs")
"""What commands of all distributions share."""


def not_allowed(found: Import) -> str:
    """Return why a module of one distribution may not import this of another, or the empty string."""
    here, there = found.source.partition(".")[0], found.module.partition(".")[0]
    if here == there or not there.startswith("uncollapse"):
        return ""
    if there not in distributions().get(here, (None, ()))[1]:
        return f"its distribution does not declare {there.replace('_', '-')}"
    if inside(found.module, floors()["machinery"]) and here not in floors()["tools"]:  # type: ignore[arg-type]
        return "what drives the parts, which a tool may know and a part may not"
    if found.module.count(".") > 1 or any(part.startswith("_") for part in found.module.split(".")):
        return "" if found.module in COMMANDS else "a module behind the public ones"
    return "" if found.name in public_names(found.module) else f"a name that is not in {found.module}.__all__"


def test_distributions_import_public_names_of_what_they_declare() -> None:
    assert [f"{i} ({why})" for i in everything().imports() if (why := not_allowed(i))] == []


@pytest.mark.parametrize(
    ("source", "module", "name", "why"),
    [
        ("uncollapse_mae.plugin", "uncollapse.plugins", "hookimpl", ""),
        ("uncollapse_mae.plugin", "uncollapse.inference", "Inference", ""),
        ("uncollapse_mae.plugin", "torch", "Tensor", ""),
        ("uncollapse_mae.plugin", "uncollapse_mae.functional", "f", ""),
        ("uncollapse_mae.plugin", "uncollapse_images.decoders", "MaskedConv2d", "its distribution does not declare uncollapse-images"),
        ("uncollapse_latents.flows.iaf", "uncollapse_images.decoders", "MaskedConv2d", ""),
        ("uncollapse.model", "uncollapse_images.decoders", "MaskedConv2d", "its distribution does not declare uncollapse-images"),
        ("uncollapse_mae.plugin", "uncollapse.plugins.manager", "PluginInfo", "a module behind the public ones"),
        ("uncollapse_mae.plugin", "uncollapse.inference", "_all_gather", "a name that is not in uncollapse.inference.__all__"),
        ("uncollapse_mae.plugin", "uncollapse.training", "Run", "what drives the parts, which a tool may know and a part may not"),
        ("uncollapse_report.collect", "uncollapse.training", "Run", ""),
    ],
)  # fmt: skip
def test_what_may_be_imported(source: str, module: str, name: str, why: str) -> None:
    assert not_allowed(Import(source, 1, module, name)) == why


def test_the_core_names_no_plugin() -> None:
    papers = {name.removeprefix("uncollapse_") for name in distributions()} - {"uncollapse"}
    found = []
    for path in sorted(p for p in (CORE / "uncollapse").rglob("*") if p.suffix in (".py", ".yaml")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            for paper in papers:
                named = f"uncollapse_{paper}" in line or f"uncollapse-{paper}" in line
                # A component type, "paper.remedy", as it stands in quotes or in YAML; not the paper's name in prose.
                quoted = any(f"{before}{paper}." in line for before in ("'", '"', "`", "type: "))
                if named or quoted:
                    found.append(f"{path.relative_to(CORE)}:{number}: {line.strip()}")
    assert found == []


def test_entry_points_lead_into_their_own_distribution() -> None:
    """One that leads elsewhere breaks whoever reads it where that is not installed, all of pytest for example."""
    wrong = []
    for project in [ROOT / "core", *sorted(p.parent for p in ROOT.glob("plugins/*/pyproject.toml"))]:
        listed = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        groups = {"scripts": listed.get("scripts", {}), **listed.get("entry-points", {})}
        own = {package.name for package in (project / "src").iterdir() if package.is_dir()}
        for group, points in groups.items():
            wrong += [f"{project.name}: {group}: {v}" for v in points.values() if re.split(r"[.:]", v)[0] not in own]
    assert wrong == []
