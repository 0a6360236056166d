"""Plugins: the hook, discovery, and the registry of installed components."""

from .formats import SampleFormat
from .hooks import hookimpl, hookspec
from .lazy import Lazy
from .manager import DISABLE, PluginInfo, Registry, load_registry, registry
from .policy import API_VERSION, Deprecation
from .remedies import CONDITIONS, Condition, Remedy

__all__ = [
    "API_VERSION",
    "CONDITIONS",
    "DISABLE",
    "Condition",
    "Deprecation",
    "Lazy",
    "PluginInfo",
    "Registry",
    "Remedy",
    "SampleFormat",
    "hookimpl",
    "hookspec",
    "load_registry",
    "registry",
]
