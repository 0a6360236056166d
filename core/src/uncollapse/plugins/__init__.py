"""Plugins: the hook, discovery, and the registry of installed components."""

from .hooks import API_VERSION, hookimpl, hookspec
from .manager import PluginInfo, Registry, load_registry, registry

__all__ = ["API_VERSION", "PluginInfo", "Registry", "hookimpl", "hookspec", "load_registry", "registry"]
