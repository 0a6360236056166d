"""From a finding to remedies: ranked, checked against the pipeline, and written as a new one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from uncollapse.config import PipelineConfig, dump_config, merged, parse_config
from uncollapse.errors import ConfigError, did_you_mean
from uncollapse.findings import Finding
from uncollapse.pipeline import Pipeline
from uncollapse.plugins import Registry, Remedy, registry

__all__ = ["Prescription", "Prescriptions", "apply", "known_remedies", "prescribe"]

_KNOWN = "known_remedies.yaml"

OWN = "diagnosis"
"""The plugin whose remedies are asked for without its name: this distribution itself."""


@dataclass(frozen=True)
class Prescription:
    """One remedy for one finding.

    Args:
        remedy: What it is.
        plugin: Name of the plugin that brings it.
        distribution: What brings the plugin.
        installed: Whether it is here already.
        rank: 1 to 3, see :class:`uncollapse.plugins.Remedy`.
        fragment: What is merged over the pipeline.
    """

    remedy: Remedy
    plugin: str
    distribution: str
    installed: bool
    rank: int
    fragment: Mapping[str, Any]

    @property
    def name(self) -> str:
        """``plugin.remedy``, by which it is asked for; without the plugin for those of this distribution."""
        return self.remedy.name if self.plugin == OWN else f"{self.plugin}.{self.remedy.name}"

    @property
    def install(self) -> str | None:
        """The command that brings it; None where it is here."""
        return None if self.installed else f"pip install {self.distribution}"

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "name": self.name,
            "rank": self.rank,
            "installed": self.installed,
            "install": self.install,
            "why": self.remedy.why,
            "cost": self.remedy.cost,
            "slowdown": self.remedy.slowdown,
            "source": self.remedy.source,
            "fragment": dict(self.fragment),
        }


@dataclass(frozen=True)
class Prescriptions:
    """Remedies for a finding, the best first, and why others do not apply, by name."""

    condition: str
    ranked: tuple[Prescription, ...]
    left_out: Mapping[str, str]

    def choose(self, name: str | None = None) -> Prescription:
        """Return the remedy of that name, or the first one that is installed.

        Raises:
            ConfigError: There is none.
        """
        known = [p.name for p in self.ranked]
        found = [p for p in self.ranked if p.name == name] if name else [p for p in self.ranked if p.installed]
        if not found:
            why = self.left_out.get(name or "")
            if name and why:
                raise ConfigError(f"--remedy {name}: it does not apply to this pipeline: {why}")
            wanted = f"--remedy {name}: no remedy has that name{did_you_mean(name, known)}" if name else "--apply"
            raise ConfigError(f"{wanted}: remedies for {self.condition!r} here: {', '.join(known) or 'none'}")
        if not found[0].installed:
            raise ConfigError(f"--remedy {name}: it is not installed; install it with: {found[0].install}")
        return found[0]


def prescribe(
    finding: Finding, pipeline: Mapping[str, Any] | None = None, *, installed: Registry | None = None
) -> Prescriptions:
    """Return remedies for a finding: installed ones and those that ``pip`` could add.

    Ranked by what the remedy was made for, then those that are here, then by the time of a training step.

    Args:
        finding: What was found.
        pipeline: The resolved pipeline that a remedy is to be merged over; what does not fit it, or changes nothing,
            is left out with the reason. None for a model from elsewhere: then fragments show what to do.
        installed: The registry; by default this process's.
    """
    found, left_out = (installed or registry()).remedies()
    here = {info.name for info in (installed or registry()).plugins if info.error is None and not info.disabled}
    candidates = [(info.name, info.distribution, True, remedy) for info, remedy in found]
    candidates += [(p, d, False, remedy) for p, d, remedy in known_remedies() if p not in here]
    ranked, reasons = [], dict(left_out)
    treatable = [condition.name for condition in (installed or registry()).conditions()[0]]
    for plugin, distribution, is_here, remedy in candidates:
        unknown = [name for name in remedy.treats if name not in treatable]
        if unknown:
            reasons[f"{plugin}.{remedy.name}"] = (
                f"it treats {unknown[0]!r}, which is no known condition{did_you_mean(unknown[0], treatable)}; known: "
                f"{', '.join(treatable)}"
            )
        rank = remedy.treats.get(finding.condition)
        if rank is None:
            continue
        fragment, why = _fitted(remedy, finding, pipeline, is_here)
        offered = Prescription(remedy, plugin, distribution, is_here, rank, fragment)
        if why:
            reasons[offered.name] = why
        else:
            ranked.append(offered)
    ranked.sort(key=lambda p: (p.rank, not p.installed, p.remedy.slowdown, p.name))
    return Prescriptions(finding.condition, tuple(ranked), reasons)


def apply(prescription: Prescription, pipeline: Mapping[str, Any], path: Path | None = None) -> Path:
    """Write the pipeline with the remedy merged over it as a new file, once it has been built and tried.

    Args:
        prescription: An installed remedy.
        pipeline: The resolved pipeline of the run.
        path: The file; by default ``<name>-<remedy>.yaml`` in the current folder.

    Raises:
        ConfigError: The file exists already, or the pipeline does not validate.
    """
    name = f"{pipeline['name']}-{prescription.name}"[:100]
    path = Path(f"{name}.yaml") if path is None else path
    if path.exists():
        raise ConfigError(f"{path} exists already, and nothing is overwritten; choose another file with --pipeline")
    named = {"name": name, "description": prescription.remedy.why}
    config = parse_config({**merged(pipeline, prescription.fragment), **named}, origin=str(path))
    Pipeline(config).build()
    text = f"# {pipeline['name']} with the remedy {prescription.name}: {prescription.remedy.why}\n{dump_config(config)}"
    try:
        # Exclusive: a file that appeared meanwhile is kept, too.
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{path} exists already, and nothing is overwritten; choose another file") from None
    return path


@cache
def known_remedies() -> tuple[tuple[str, str, Remedy], ...]:
    """Return plugin, distribution and remedy of every remedy that the project knows, installed or not."""
    raw = yaml.safe_load((files(__package__) / _KNOWN).read_text(encoding="utf-8"))
    return tuple(
        (plugin["plugin"], plugin["distribution"], Remedy(**{**r, "needs": _tuples(r.get("needs", {}))}))
        for plugin in raw["plugins"]
        for r in plugin["remedies"]
    )


def _tuples(needs: Mapping[str, list[str]]) -> dict[str, tuple[str, ...]]:
    return {path: tuple(values) for path, values in needs.items()}


def _fitted(
    remedy: Remedy, finding: Finding, pipeline: Mapping[str, Any] | None, is_here: bool
) -> tuple[Mapping[str, Any], str]:
    """Return the fragment, and why the remedy does not apply (empty where it does)."""
    if pipeline is None:
        if callable(remedy.fragment):
            try:
                return remedy.fragment(_EXAMPLE, finding.units), ""
            except (KeyError, TypeError):
                return {}, "it needs a pipeline"
        return remedy.fragment, ""
    for place, allowed in remedy.needs.items():
        value = _at(pipeline, place)
        if value not in allowed:
            return {}, f"{place} is {value!r}, and it needs {' or '.join(map(repr, allowed))}"
    try:
        fragment = remedy.fragment(pipeline, finding.units) if callable(remedy.fragment) else remedy.fragment
        if is_here:
            return fragment, _does_not_fit(fragment, pipeline)
    except (ConfigError, KeyError, TypeError) as error:
        return {}, re.sub(r"\s+", " ", str(error))
    return fragment, ""


def _does_not_fit(fragment: Mapping[str, Any], pipeline: Mapping[str, Any]) -> str:
    before: PipelineConfig = parse_config(pipeline)
    after = parse_config(merged(pipeline, fragment))
    return "the pipeline has it already" if dump_config(before) == dump_config(after) else ""


def _at(pipeline: Mapping[str, Any], place: str) -> Any:
    node: Any = pipeline
    for key in place.split("."):
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


_EXAMPLE: Mapping[str, Any] = {
    "training": {"epochs": 40},
    "model": {"posterior": {"latent_dim": 32}},
}
"""What stands for a pipeline where there is none."""
