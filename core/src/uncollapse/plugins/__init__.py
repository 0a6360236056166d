"""Plugins: the hook, discovery, and the registry of installed components."""

from .hooks import hookimpl, hookspec
from .manager import PluginInfo, Registry, load_registry, registry
from .policy import API_VERSION, Deprecation
from .remedies import CONDITIONS, Condition, Remedy

__all__ = [
    "API_VERSION",
    "CONDITIONS",
    "Condition",
    "Deprecation",
    "PluginInfo",
    "Registry",
    "Remedy",
    "hookimpl",
    "hookspec",
    "load_registry",
    "registry",
]
