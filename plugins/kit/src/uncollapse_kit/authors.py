"""Commands for authors of plugins: write a new one, and check one that is installed."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from uncollapse.errors import PluginError, did_you_mean

if TYPE_CHECKING:
    from uncollapse.config import ComponentConfig
    from uncollapse.plugins import PluginInfo

    from . import Check, Conformance

__all__ = ["check", "new_plugin"]

_WORDS = {"passed": "passed", "failed": "failed", "not applicable": "skipped"}
_COLOURS = {"passed": "green", "failed": "bold red", "skipped": "yellow"}


def new_plugin(name: str, kind: str, folder: Path, component: str | None) -> None:
    """Write a new distribution and say what to do with it; see :func:`uncollapse_kit.scaffold.new_plugin`."""
    from .scaffold import new_plugin as write

    target = write(name, kind, folder, component)
    plugin = target.name.removeprefix("uncollapse-").replace("-", "_")
    Console(highlight=False).print(
        f"Written to {target}. Next:\n"
        f"  cd {target}\n"
        "  pip install -e '.[test]'\n"
        f"  uncollapse check {plugin}\n"
        "  pytest\n"
        "  uncollapse train pipeline.yaml",
        soft_wrap=True,
        markup=False,
    )


def check(name: str, *, as_json: bool) -> bool:
    """Run the conformance kit over a plugin or one of its components, print what it found, and return if all is well.

    Args:
        name: A plugin, a distribution, or a component's type.
        as_json: Print JSON instead of a table.

    Raises:
        PluginError: Nothing installed has this name, or it is switched off.
    """
    from . import check_component

    plugin, components = _find(name)
    reports = []
    console = Console(stderr=True)
    with console.status("checking") as status:
        for config in components:
            status.update(f"checking {config.kind} {config.type_name()}")
            reports.append((config, check_component(config)))
    fine = plugin.error is None and all(report.passed for _, report in reports)
    if as_json:
        sys.stdout.write(json.dumps(_record(plugin, reports, fine), indent=2) + "\n")
    else:
        _print(plugin, reports)
    return fine


def _find(name: str) -> tuple[PluginInfo, list[type[ComponentConfig]]]:
    """Return a plugin and those of its components that ``name`` means."""
    from uncollapse.plugins import DISABLE, registry

    found = registry()
    for plugin in found.plugins:
        if name == plugin.name or _normalized(name) == _normalized(plugin.distribution):
            if plugin.disabled:
                raise PluginError(f"plugin {plugin.name!r} is switched off by {DISABLE}; unset it to check the plugin")
            return plugin, [c for c in found.components() if (c.kind, c.type_name()) in plugin.components]
    types = [c.type_name() for c in found.components()]
    if name.rpartition(":")[2] not in types:
        known = [*(p.name for p in found.plugins), *(p.distribution for p in found.plugins), *types]
        raise PluginError(
            f"no installed plugin, distribution or component is named {name!r}{did_you_mean(name, known)}"
            f"{found.broken_hint(name)}; `uncollapse plugins` lists all"
        )
    config = found.get(name)
    return found.home(config), [config]


def _normalized(distribution: str) -> str:
    """Return a distribution's name as package indexes compare names."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _record(
    plugin: PluginInfo, reports: Iterable[tuple[type[ComponentConfig], Conformance]], fine: bool
) -> dict[str, Any]:
    return {
        "plugin": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "passed": fine,
        "error": plugin.error,
        "deprecations": [{"message": d.message, "file": d.file, "line": d.line} for d in plugin.deprecations],
        "components": [
            {
                "kind": config.kind,
                "type": config.type_name(),
                "passed": report.passed,
                "checks": [
                    {"name": c.name, "outcome": _WORDS[c.outcome], "reason": c.reason, "where": c.where}
                    for c in report.checks
                ],
            }
            for config, report in reports
        ],
    }


def _print(plugin: PluginInfo, reports: list[tuple[type[ComponentConfig], Conformance]]) -> None:
    console = Console(highlight=False)
    table = Table(title=escape(f"{plugin.name} ({plugin.distribution} {plugin.version})"), title_justify="left")
    for heading in ("component, check", "result", "why"):
        table.add_column(heading, overflow="fold")
    if plugin.error is not None:
        _add(table, f"plugin {plugin.name}", [("loads", "failed", plugin.error)])
    counts = dict.fromkeys(_COLOURS, 0)
    for config, report in reports:
        rows = _rows(report.checks)
        _add(table, f"{config.kind} {config.type_name()}", rows)
        for _, result, _ in rows:
            counts[result] += 1
    console.print(table)
    for deprecation in plugin.deprecations:
        console.print(f"[yellow]deprecated[/yellow]: {escape(str(deprecation))}", soft_wrap=True)
    if plugin.error is None:
        said = ", ".join(f"{count} {result}" for result, count in counts.items())
        console.print(f"{len(reports)} component{'s' if len(reports) != 1 else ''}: {said}")


def _add(table: Table, component: str, rows: Iterable[tuple[str, str, str]]) -> None:
    table.add_row(f"[bold]{escape(component)}[/bold]")
    for check, result, why in rows:
        table.add_row(f"  {escape(check)}", f"[{_COLOURS[result]}]{result}[/]", escape(why))
    table.add_section()


def _rows(checks: Iterable[Check]) -> list[tuple[str, str, str]]:
    """Return check, result and reason, one row for a check that ran in several settings, unless it failed in them."""
    by_name: dict[str, list[Check]] = {}
    for one in checks:
        by_name.setdefault(one.name, []).append(one)
    rows = []
    for name, group in by_name.items():
        failed = [c for c in group if c.outcome == "failed"]
        passed = [c for c in group if c.outcome == "passed"]
        if failed:
            rows += [(name, "failed", f"{c.where}: {c.reason}" if c.where else c.reason) for c in failed]
        elif passed:
            rows.append((name, "passed", f"in {len(passed)} settings" if len(passed) > 1 else ""))
        else:
            rows.append((name, "skipped", "; ".join(dict.fromkeys(c.reason for c in group))))
    return rows
