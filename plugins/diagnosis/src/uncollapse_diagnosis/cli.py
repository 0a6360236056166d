"""What condition a run's model is in, and what treats it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from uncollapse.cli.runs import checkpoint_of
from uncollapse.errors import ConfigError, did_you_mean
from uncollapse.findings import Verdict, tone
from uncollapse.plugins import registry
from uncollapse.training import Run

from .diagnosis import Diagnosis
from .information import Units
from .measurements import OWN, contributed
from .prescriptions import Prescriptions, apply
from .runs import diagnose_run
from .settings import Settings

__all__ = ["diagnose"]

_MOST_SHOWN = 3
_UNITS = "active_units_"
_BY_UNIT = "unit_information"
"""It has a table of its own."""
_NOT_ENOUGH = 15
"""Exit code where the data do not suffice for a verdict."""


def diagnose(
    path: Path,
    split: str | None,
    which: Any,
    device: str,
    settings: Settings,
    output: Path | None,
    as_json: bool,
    treat: bool,
    remedy: str | None,
    pipeline: Path | None,
    fail_on: Sequence[str],
) -> int:
    """Diagnose a run, write ``diagnosis.json``, prescribe, and return the exit code.

    Raises:
        ConfigError: A remedy that was asked for is not there, or does not apply; or ``fail_on`` names no condition.
    """
    codes = _exit_codes(fail_on)
    run = Run(path)
    found, remedies, record = diagnose_run(
        run, split=split, which=which, device=device, settings=settings, output=output
    )
    console = Console()
    if as_json:
        console.print(json.dumps(record, indent=2), soft_wrap=True, markup=False, highlight=False)
    else:
        _print(
            console,
            found,
            remedies,
            f"{record['split']} split, {found.examples:,} examples; checkpoint: {checkpoint_of(record)}",
            path,
        )
        console.print(f"Written to {output or path / 'diagnosis.json'}", soft_wrap=True)
    if treat:
        if found.verdict in (Verdict.HEALTHY, Verdict.NOT_COLLAPSED):
            raise ConfigError(
                f"--apply: the diagnosis is {found.verdict}, so there is nothing to treat; no file was written"
            )
        written = apply(remedies.choose(remedy), run.config.model_dump(mode="json"), pipeline)
        (Console(stderr=True) if as_json else console).print(
            f"Written to {written}; train it with: uncollapse train {written}", soft_wrap=True
        )
    return next((codes[finding.condition] for finding in found.findings if finding.condition in codes), 0)


def _exit_codes(fail_on: Sequence[str]) -> dict[str, int]:
    """Return the exit codes of the conditions that a command is to fail on, which may be written with dashes."""
    known = {c.name: c.exit_code for c in registry().conditions()[0]} | {Verdict.NOT_ENOUGH: _NOT_ENOUGH}
    written = {name.replace(" ", "-"): name for name in known}
    unknown = [name for name in fail_on if name.replace(" ", "-") not in {"any", *written}]
    if unknown:
        raise ConfigError(
            f"--fail-on {unknown[0]}: no such condition{did_you_mean(unknown[0], written)}; "
            f"allowed: any, {', '.join(sorted(written))}"
        )
    asked = {name.replace(" ", "-") for name in fail_on}
    return {name: known[name] for dashed, name in written.items() if asked & {"any", dashed}}


def _print(console: Console, found: Diagnosis, remedies: Prescriptions, title: str, path: Path) -> None:
    for number, finding in enumerate(found.findings):
        colour = {"good": "green", "unknown": "yellow"}.get(tone(finding.condition), "red" if number == 0 else "yellow")
        style = f"bold {colour}"
        console.print(f"[{style}]{finding.condition}[/]: {escape(finding.evidence)}", soft_wrap=True, highlight=False)
    if found.history is not None:
        console.print(f"training: {found.history.sentence}", soft_wrap=True, markup=False, highlight=False)
    console.print(_measurements(found, title))
    if found.units is not None and len(found.units.information) > 1:
        console.print(_units(found.units, found.thresholds.unit))
    for name, reason in found.skipped.items():
        console.print(f"{name} was left out: {reason}", soft_wrap=True, markup=False)
    if found.verdict == Verdict.NOT_ENOUGH:
        console.print("Measure on more examples: --split train, or a larger --examples.", markup=False)
    elif found.verdict not in (Verdict.HEALTHY, Verdict.NOT_COLLAPSED):
        _print_remedies(console, remedies, path)


def _measurements(found: Diagnosis, title: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for heading in ("measured", "value ± standard error", ""):
        table.add_column(heading, no_wrap=True, style="dim" if not heading else None)
    units = [name for name in found.measurements if name.startswith(_UNITS)]
    if units:
        counts = " ".join(f"{found.measurements[name].value:.0f}" for name in units)
        ends = " to ".join(name.removeprefix(_UNITS) for name in (units[0], units[-1]))
        table.add_row("active units", counts, f"of {math.prod(found.latent_shape)}; variance {ends}")
    meanings = {name: text for m in [*OWN, *contributed()[0]] for name, text in m.meanings.items()}
    for name, e in found.measurements.items():
        if name not in (*units, _BY_UNIT):
            error = "" if e.standard_error is None else f" ± {e.standard_error:.2g}"
            meaning = meanings.get(name, "").replace("{cap}", f"{found.thresholds.mismatch:.2f}")
            label = name.replace("_", " ").replace("mutual posterior", "posterior")
            table.add_row(label, f"{e.value:.4g}{error} {e.unit}", meaning)
    return table


def _units(units: Units, threshold: float) -> Table:
    what = "dimension" if units.size == 1 else "channel"
    table = Table(
        title=f"by {what}; below {threshold:.3f} nats it is collapsed", title_justify="left", box=None, pad_edge=False
    )
    columns = {
        "carries (nats)": (units.information, True),
        "rate (nats)": (units.rate, True),
        "posterior var.": (units.posterior_variance, False),
        "codes: mean": (units.aggregate_mean, False),
        "variance": (units.aggregate_variance, False),
    }
    table.add_column(what, justify="right")
    for name, (values, _) in columns.items():
        if values is not None:
            table.add_column(name, justify="right", no_wrap=True)
    order = sorted(range(len(units.information)), key=lambda u: -units.information[u][0])
    # Both ends are of interest, the middle of a large latent is not.
    shown = order if len(order) <= 32 else [*order[:16], *order[-16:]]
    for unit in shown:
        cells = [_cell(v[unit], error) for v, error in columns.values() if v is not None]
        table.add_row(str(unit), *cells, style="dim" if units.information[unit][0] < threshold else None)
    if len(shown) < len(order):
        table.caption = f"{len(order) - len(shown)} in between are in diagnosis.json"
    return table


def _cell(measured: tuple[float, float], with_error: bool) -> str:
    value, error = measured
    return f"{value:.3f} ± {error:.3f}" if with_error else f"{value:.2f}"


def _print_remedies(console: Console, remedies: Prescriptions, path: Path) -> None:
    if not remedies.ranked:
        console.print("No remedy applies to this pipeline; diagnosis.json says why.")
        return
    console.print(f"[bold]Remedies for {remedies.condition!r}, the best first[/]", highlight=False)
    for number, p in enumerate(remedies.ranked[:_MOST_SHOWN], 1):
        time = f" A step takes about {p.remedy.slowdown:g} times as long." if p.remedy.slowdown > 1 else ""
        console.print(f"{number}. {p.name}: {p.remedy.why}", soft_wrap=True, markup=False, highlight=False)
        console.print(f"   costs: {p.remedy.cost}{time}", soft_wrap=True, markup=False, highlight=False)
        console.print(f"   source: {p.remedy.source}", soft_wrap=True, markup=False, highlight=False)
        fragment = yaml.safe_dump(dict(p.fragment), sort_keys=False, allow_unicode=True).rstrip()
        console.print(Padding(Syntax(fragment, "yaml", background_color="default"), (0, 0, 0, 3)))
        how = p.install or f"uncollapse diagnose {path} --apply --remedy {p.name}"
        console.print(f"   with: {how}", soft_wrap=True, markup=False, highlight=False)
    more = [p.name for p in remedies.ranked[_MOST_SHOWN:]]
    if more:
        console.print(f"Further ones, in diagnosis.json: {', '.join(more)}", soft_wrap=True, highlight=False)
