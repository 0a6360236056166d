"""Plugins: the hook, discovery, and the registry of installed components."""

from .contributions import Measurement, ReportSection, SampleFormat
from .hooks import hookimpl, hookspec
from .lazy import Lazy
from .manager import DISABLE, PluginInfo, Registry, load_registry, registry
from .policy import API_VERSION, Deprecation
from .remedies import Remedy

__all__ = [
    "API_VERSION",
    "DISABLE",
    "Deprecation",
    "Lazy",
    "Measurement",
    "PluginInfo",
    "Registry",
    "Remedy",
    "ReportSection",
    "SampleFormat",
    "hookimpl",
    "hookspec",
    "load_registry",
    "registry",
]
