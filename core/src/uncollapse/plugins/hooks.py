"""The whole plugin API: the hooks, and the version that a plugin states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pluggy

from ..component import ComponentConfig
from ..findings import Condition
from .contributions import Measurement, ReportSection, SampleFormat
from .lazy import Lazy
from .remedies import Remedy

__all__ = ["PROJECT", "Specification", "hookimpl", "hookspec"]

PROJECT = "uncollapse"

hookspec = pluggy.HookspecMarker(PROJECT)
"""Marks a hook of the plugin API; for the core only."""
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function as a plugin's implementation of a hook."""


class Specification:
    """What a plugin may implement."""

    @hookspec
    def uncollapse_components(self) -> Iterable[type[ComponentConfig] | Lazy]:  # type: ignore[empty-body]
        """Return the config classes of the components that the plugin brings, or where they are to be imported from."""

    @hookspec
    def uncollapse_demo(self) -> Mapping[str, Any]:  # type: ignore[empty-body]
        """Return what is merged over the demo's plain VAE to show this remedy; its ``name`` names the run. Optional."""

    @hookspec
    def uncollapse_remedies(self) -> Iterable[Remedy]:  # type: ignore[empty-body]
        """Return what ``uncollapse diagnose`` may prescribe; see :class:`uncollapse.plugins.Remedy`. Optional."""

    @hookspec
    def uncollapse_sample_formats(self) -> Iterable[SampleFormat]:  # type: ignore[empty-body]
        """Return formats of ``uncollapse sample``; see :class:`uncollapse.plugins.SampleFormat`. Optional."""

    @hookspec
    def uncollapse_conditions(self) -> Iterable[Condition]:  # type: ignore[empty-body]
        """Return what else can be wrong with a model; see :class:`uncollapse.findings.Condition`. Optional."""

    @hookspec
    def uncollapse_measurements(self) -> Iterable[Measurement]:  # type: ignore[empty-body]
        """Return what ``uncollapse diagnose`` is to measure besides; see :class:`uncollapse.plugins.Measurement`."""

    @hookspec
    def uncollapse_sections(self) -> Iterable[ReportSection]:  # type: ignore[empty-body]
        """Return further sections of the report; see :class:`uncollapse.plugins.ReportSection`. Optional."""
