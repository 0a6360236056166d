"""Imports point inward: who may know whom, read from the source without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "core" / "src" / "uncollapse"
PLUGINS = sorted(p for p in (ROOT / "plugins").glob("*/src/*") if (p / "__init__.py").exists())


@dataclass(frozen=True)
class Import:
    """One import: ``name`` of ``module``, found in ``source`` at ``line``."""

    source: str
    line: int
    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: from {self.module} import {self.name}"


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield all statements, those for type checkers only left out."""
    for node in body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from statements(node.orelse)
            continue
        yield node
        for field in ("body", "orelse", "finalbody", "handlers"):
            inner = getattr(node, field, [])
            for item in inner if isinstance(inner, list) else []:
                yield from statements(item.body if isinstance(item, ast.ExceptHandler) else [item])


@cache
def imports_in(root: Path) -> tuple[Import, ...]:
    """Return every import of a package, also those inside functions; relative ones made absolute."""
    found: dict[Import, None] = {}
    for path in sorted(root.rglob("*.py")):
        module = module_name(path, root)
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for node in statements(ast.parse(path.read_text()).body):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    found[Import(module, node.lineno, alias.name, "")] = None
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    above = package.split(".")[: len(package.split(".")) - node.level + 1]
                    base = ".".join([*above, *([base] if base else [])])
                for alias in node.names:
                    found[Import(module, node.lineno, base, alias.name)] = None
    return tuple(found)


def is_module(name: str) -> bool:
    path = CORE.parent.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def target_of(found: Import) -> str:
    """Return the module that an import reaches: ``from .. import files`` reaches ``uncollapse.files``."""
    whole = f"{found.module}.{found.name}"
    return whole if found.name and is_module(whole) else found.module


# ------------------------------------------------------------------------------------------------------- who knows whom

SPEECH = {"config.component", "distributions", "errors", "inference", "model", "protocols"}
"""What every part may speak."""

# Parts, and what they may know beside the common speech: helpers, and parts that they are made of.
PARTS: dict[str, set[str]] = {
    "data": set(),
    "encoders": {"gates", "weight_norm"},
    "posteriors": {"flows", "gates", "weight_norm"},
    "moments": set(),
    "priors": {"flows", "gates", "weight_norm"},
    "flows": {"weight_norm", "decoders.masked_conv"},  # masked convolutions
    "decoders": {
        "gates",
        "weight_norm",
        "encoders",
        "likelihoods",
    },  # decoders mirror encoders, and end in a likelihood
    "likelihoods": set(),
    "objectives": {"schedules"},  # a number is a constant schedule
    "schedules": set(),
    "estimators": set(),
    "probes": set(),
    "samplers": {"estimators.passes"},  # passes over a model as every measurement makes them
    "observers": {"verdict"},  # the nats that count as a code
    "training.optimizers": set(),
    "training.learning_rates": {"training.plateau"},
    "training.plateau": set(),
}

# Everything else, from the inside to the outside.
OTHERS: dict[str, set[str]] = {
    "errors": set(),
    "protocols": set(),
    "distributions": {"errors"},
    "inference": {"distributions", "errors", "protocols"},
    "model": {"distributions", "errors", "inference", "protocols"},
    "files": {"errors"},
    "scaffold": {"errors"},
    "verdict": {"errors", "protocols"},
    "weight_norm": {"errors"},
    "initialization": {"errors"},
    "gates": {"distributions"},
    "config": {"errors", "plugins", "protocols"},
    "plugins": {"config.component", "errors"},
    "discrepancy": {"errors"},
    # What it measures with are the estimators' own functions; its remedies are found through the registry.
    "diagnosis": {
        *SPEECH, "config", "discrepancy", "estimators", "estimators.passes", "files", "observers", "pipeline", "plugins", "verdict",
    },
    "evaluation": {*SPEECH, "config", "estimators.passes", "verdict"},
    "pipeline": {*SPEECH, "config", "evaluation", "files", "initialization", "plugins", "training"},
    "training": {*SPEECH, "config", "evaluation", "files", "pipeline", "plugins"},
    "text": {"errors", "estimators.passes", "model", "protocols"},
    "report": {*SPEECH, "config", "estimators.passes", "evaluation", "files", "pipeline", "plugins", "text", "verdict"},
    "testing": {*SPEECH, "plugins"},
    "testing.composition": {*SPEECH, "config", "evaluation", "pipeline", "testing", "training"},
    "demo": {*SPEECH, "config", "evaluation", "files", "pipeline", "plugins", "report", "training", "verdict"},
    "cli": {
        *SPEECH, "config", "demo", "diagnosis", "evaluation", "files", "pipeline", "plugins", "report", "scaffold",
        "testing", "text", "training", "verdict",
    },
    "__main__": {"cli"},
}  # fmt: skip

# The protocol of learning rates that hear of validations lies beside the only one of them.
NAMES_ALLOWED = {("training", "training.plateau"): {"Feedback", "Reaction"}}


def within(module: str, area: str) -> bool:
    return module == area or module.startswith(f"{area}.")


def area_of(module: str) -> str:
    """Return the longest area of the tables that a module of the core belongs to."""
    inside = [a for a in (*PARTS, *OTHERS) if within(module, a)]
    return max(inside, key=len, default="")


def violations(imports: tuple[Import, ...]) -> list[str]:
    """Return the imports of the core that point outward."""
    wrong = []
    for found in imports:
        target = target_of(found)
        source = found.source.partition(".")[2]
        inside = target.partition(".")[2]
        if target.split(".")[0] != "uncollapse" or not source or not inside:
            continue
        home, reached = area_of(source), area_of(inside)
        allowed = PARTS[home] | SPEECH if home in PARTS else OTHERS.get(home, set())
        if reached == home or found.name in NAMES_ALLOWED.get((home, reached), ()):
            continue
        # An area that is allowed brings its folder, but not the parts that happen to lie in it.
        if not any(within(inside, a) and not (reached in PARTS and reached != area_of(a)) for a in allowed):
            wrong.append(str(found))
    return wrong


def test_the_core_s_imports_point_inward() -> None:
    assert violations(imports_in(CORE)) == []


def test_every_module_of_the_core_has_its_place_in_the_tables() -> None:
    modules = {module_name(p, CORE).partition(".")[2] for p in CORE.rglob("*.py")} - {""}
    assert [m for m in sorted(modules) if not area_of(m)] == []
    for area in (*PARTS, *OTHERS):
        assert is_module(f"uncollapse.{area}"), area


@pytest.mark.parametrize("outer", ["training", "report", "cli", "demo", "evaluation", "pipeline", "testing"])
def test_outside_knows_no_part(outer: str) -> None:
    """The table itself must not grant what the design forbids: a concrete part, known by name."""
    granted = {a for a in OTHERS[outer] if area_of(a) in PARTS}
    assert granted <= {"estimators.passes"}


@pytest.mark.parametrize(
    ("source", "module", "name", "fine"),
    [
        ("uncollapse.priors.new", "uncollapse.protocols", "Prior", True),
        ("uncollapse.priors.new", "uncollapse.flows", "NormalizingFlow", True),
        ("uncollapse.priors.new", "uncollapse.training.trainer", "Trainer", False),
        ("uncollapse.priors.new", "uncollapse.decoders", "MLPDecoder", False),
        ("uncollapse.priors.new", "uncollapse.config.pipeline", "PipelineConfig", False),
        ("uncollapse.training.trainer", "uncollapse.model", "LatentVariableModel", True),
        ("uncollapse.training.trainer", "uncollapse.training.plateau", "Feedback", True),
        ("uncollapse.training.trainer", "uncollapse.training.plateau", "PlateauConfig", False),
        ("uncollapse.training.trainer", "uncollapse.training.optimizers", "AdamConfig", False),
        ("uncollapse.training.trainer", "uncollapse.objectives", "ELBO", False),
        ("uncollapse.config.pipeline", "uncollapse.training.optimizers", "AdamConfig", False),
        ("uncollapse.pipeline", "uncollapse.training.optimizers", "AdamConfig", False),
        ("uncollapse.report.page", "uncollapse.estimators.passes", "measuring", True),
        ("uncollapse.report.page", "uncollapse.estimators.nll", "ImportanceWeightedNLL", False),
        ("uncollapse.report.page", "uncollapse.cli", "main", False),
        ("uncollapse.cli", "uncollapse.report", "build", True),
        ("uncollapse.protocols", "uncollapse", "model", False),
        ("uncollapse.errors", "torch", "Tensor", True),
    ],
)
def test_the_rule(source: str, module: str, name: str, fine: bool) -> None:
    found = Import(source, 1, module, name)
    assert violations((found,)) == ([] if fine else [str(found)])


def test_every_way_of_importing_is_seen(tmp_path: Path) -> None:
    package = tmp_path / "pack"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("from .inner import a\n")
    (package / "inner" / "__init__.py").write_text("from ..outer import b\nimport os.path\n")
    (package / "inner" / "part.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from ..types import c\n"
        "def f():\n    try:\n        from . import d\n    except ImportError:\n        from .. import e\n"
    )
    seen = {(i.source, i.module, i.name) for i in imports_in(package)}
    assert seen == {
        ("pack", "pack.inner", "a"),
        ("pack.inner", "pack.outer", "b"),
        ("pack.inner", "os.path", ""),
        ("pack.inner.part", "typing", "TYPE_CHECKING"),
        ("pack.inner.part", "pack.inner", "d"),
        ("pack.inner.part", "pack", "e"),
    }


# ------------------------------------------------------------------------------------------------------------- plugins


@cache
def public_names(module: str) -> frozenset[str]:
    """Return ``__all__`` of a module of the core, as written."""
    path = CORE.parent.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not path.exists():
        return frozenset()
    for node in ast.parse(path.read_text()).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(t, ast.Name) and t.id == "__all__" for t in targets):
            return frozenset(ast.literal_eval(node.value))  # type: ignore[attr-defined]
    return frozenset()


OUTER = ("cli", "demo", "report", "scaffold", "training")


def not_public(found: Import) -> str:
    """Return why a plugin may not import this, or the empty string."""
    top, _, rest = found.module.partition(".")
    if top != "uncollapse":
        other = top.startswith("uncollapse_") and top != found.source.partition(".")[0]
        return "another plugin" if other else ""
    if rest.split(".")[0] in OUTER:
        return "the core's outside"
    if "." in rest or any(part.startswith("_") for part in (*rest.split("."), found.name)):
        return "a module behind the public ones"
    return "" if found.name in public_names(found.module) else f"a name that is not in {found.module}.__all__"


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda p: p.name)
def test_plugins_import_public_names_only(plugin: Path) -> None:
    assert [f"{i} ({why})" for i in imports_in(plugin) if (why := not_public(i))] == []


@pytest.mark.parametrize(
    ("module", "name", "why"),
    [
        ("uncollapse.plugins", "hookimpl", ""),
        ("uncollapse", "Inference", ""),
        ("torch", "Tensor", ""),
        ("uncollapse_mine.functional", "f", ""),
        ("uncollapse_other", "f", "another plugin"),
        ("uncollapse.plugins.manager", "PluginInfo", "a module behind the public ones"),
        ("uncollapse.inference", "_all_gather", "a module behind the public ones"),
        ("uncollapse.inference", "field", "a name that is not in uncollapse.inference.__all__"),
        ("uncollapse.training", "Run", "the core's outside"),
    ],
)
def test_what_is_public(module: str, name: str, why: str) -> None:
    assert not_public(Import("uncollapse_mine.plugin", 1, module, name)) == why


def test_public_names_exist() -> None:
    for path in sorted(CORE.glob("*/__init__.py")):
        module = import_module(module_name(path, CORE))
        missing = [n for n in getattr(module, "__all__", ()) if not hasattr(module, n)]
        assert missing == [], module.__name__


def test_the_core_names_no_plugin() -> None:
    papers = {"mae", "infovae", "muvae", "mim", "duvae", "baselines", *(p.parent.parent.name for p in PLUGINS)}
    found = []
    for path in sorted(p for p in CORE.rglob("*") if p.suffix in (".py", ".yaml", ".html", ".j2", ".css", ".js")):
        if path.name == "known_remedies.yaml":
            # Data, and nothing but: what pip could add cannot be asked of a plugin that is not there.
            continue
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            for paper in papers:
                named = f"uncollapse_{paper}" in line or f"uncollapse-{paper}" in line
                # A component type, "paper.remedy", as it stands in quotes or in YAML; not the paper's name in prose.
                quoted = any(f"{before}{paper}." in line for before in ("'", '"', "`", "type: "))
                if named or quoted:
                    found.append(f"{path.relative_to(CORE)}:{number}: {line.strip()}")
    assert found == []
