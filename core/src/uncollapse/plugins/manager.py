"""Discovery by metadata, import on demand, and isolation: a broken plugin takes nothing else down."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, distribution, entry_points
from threading import RLock
from types import ModuleType
from typing import Any, TypeVar

import pluggy

from ..component import ComponentConfig
from ..errors import PluginError, did_you_mean
from ..findings import Condition
from ..kinds import KINDS
from .hooks import PROJECT, Specification
from .lazy import Lazy
from .policy import API, VERSION_NAME, Deprecation, PluginAPI, deprecations, member_deprecations, renamed_hooks
from .remedies import Remedy
from .validation import check_config, check_hooks, check_version, declared_by, unprefixed

__all__ = ["DISABLE", "PluginInfo", "Registry", "load_registry", "registry"]

DISABLE = "UNCOLLAPSE_DISABLE_PLUGINS"
"""Environment variable: ``all``, or names of plugins to leave out, separated by commas."""

_COMPONENTS = "uncollapse_components"

T = TypeVar("T")


@dataclass
class PluginInfo:
    """One plugin: its entry point's name, its distribution, what it brought, and why it did not load.

    Args:
        name: Name of the entry point; prefix of its component types. ``core`` for the core's own parts.
        distribution: Distribution that brought it.
        version: The distribution's version.
        components: ``(kind, type)`` of every component registered.
        error: Reason why the plugin is broken, or None.
        disabled: Whether an environment variable switched it off.
        deprecations: What it uses that a later version of the plugin API drops.
    """

    name: str
    distribution: str
    version: str
    components: list[tuple[str, str]] = field(default_factory=list)
    error: str | None = None
    disabled: bool = False
    deprecations: list[Deprecation] = field(default_factory=list)


class Registry:
    """The installed components by kind and type, and the plugins that bring them.

    Entry points are metadata: a plugin's module is imported when one of its components is asked for, or all plugins
    are; a component that it announces as :class:`Lazy` when it itself is asked for.

    Args:
        points: Entry points of plugins; one of a name that an earlier one has is refused.
        api: Version of the plugin API, and what of older ones is still accepted.
    """

    def __init__(self, points: Iterable[EntryPoint] = (), api: PluginAPI = API) -> None:
        self._api = api
        self._components: dict[tuple[str, str], type[ComponentConfig] | Lazy] = {}
        self._plugins: list[PluginInfo] = []
        self._waiting: dict[str, tuple[EntryPoint, PluginInfo]] = {}
        # Of threads that ask at once, one imports and the others wait.
        self._lock = RLock()
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(Specification)
        switched_off = {n.strip() for n in os.environ.get(DISABLE, "").split(",") if n.strip()}
        for point in points:
            dist = point.dist
            info = PluginInfo(point.name, dist.name if dist else "?", dist.version if dist else "?")
            self._plugins.append(info)
            if point.name != "core" and ("all" in switched_off or point.name in switched_off):
                info.disabled = True
            elif sum(p.name == point.name for p in self._plugins) > 1:
                info.error = f"another installed distribution already provides a plugin named {point.name!r}"
            else:
                self._waiting[point.name] = (point, info)

    @property
    def plugins(self) -> list[PluginInfo]:
        """Every plugin found, the core first, each with what it brings or why it does not; imports all of them."""
        self.components()
        return self._plugins

    @property
    def installed(self) -> list[PluginInfo]:
        """Every plugin found, from metadata alone: what is broken has not been found out yet."""
        return self._plugins

    def names(self, kind: str) -> list[str]:
        """Return the type names of one kind, the core's first."""
        self._load_all()
        return sorted((t for k, t in self._components if k == kind), key=lambda n: ("." in n, n))

    def find(self, kind: str, name: str) -> type[ComponentConfig] | None:
        """Return the config class of a component, or None; imports no more than the plugin that the name belongs to."""
        for plugin in ("core", _owner(kind, name)):
            self._load(plugin)
            if (kind, name) in self._components:
                return self._resolved(kind, name)
        return None

    def components(self, kind: str | None = None) -> list[type[ComponentConfig]]:
        """Return the config classes of one kind, or of all."""
        kinds = [kind] if kind else list(KINDS)
        found = [self._resolved(k, n) for k in kinds for n in self.names(k)]
        # One that cannot be imported takes its plugin's others along.
        return [c for c in found if c is not None and (c.kind, c.type_name()) in self._components]

    def get(self, name: str) -> type[ComponentConfig]:
        """Return the component of any kind with this type name, or ``kind:name`` where two kinds share a name.

        Raises:
            PluginError: No component has the name, or several kinds do.
        """
        wanted_kind, _, bare = name.rpartition(":")
        kinds = [wanted_kind] if wanted_kind else list(KINDS)
        found = [c for k in kinds if (c := self.find(k, bare)) is not None]
        if len(found) == 1:
            return found[0]
        if found:
            choices = ", ".join(f"{c.kind}:{bare}" for c in found)
            raise PluginError(f"several kinds of component are named {bare!r}; say which: {choices}")
        missing = [said for k in kinds if (said := self._to_install(k, bare))]
        if missing:
            raise PluginError(missing[0])
        known = [n for kind in KINDS for n in self.names(kind)]
        raise PluginError(
            f"no installed component is named {name!r}{did_you_mean(bare, known)}{self.broken_hint(bare)}; "
            "`uncollapse plugins` lists all"
        )

    def home(self, config: type[ComponentConfig]) -> PluginInfo:
        """Return the plugin that brought a registered component."""
        return next(p for p in self._plugins if (config.kind, config.type_name()) in p.components)

    def unknown(self, kind: str, name: Any) -> str:
        """Return what to say of a type that is not there: what it may mean, or which distribution to install."""
        found, name = repr(name), str(name)
        missing = self._to_install(kind, name)
        if missing:
            return missing
        owner, known = _owner(kind, name), self.names(kind)
        near, hint = did_you_mean(name, known), self.broken_hint(name)
        if "." in name and not hint and owner not in {p.name for p in self._plugins}:
            hint = f" (no plugin {owner!r} is installed; its distribution is usually called {PROJECT}-{owner})"
        return f"unknown {kind} type {found}{near}; installed: {', '.join(known) or 'none'}{hint}"

    def _to_install(self, kind: str, name: str) -> str:
        """Return which distribution to install for a type that has an owner, or the empty string where it is here."""
        owner = _owner(kind, name)
        if name not in unprefixed().get(owner, {}).get(kind, ()) or owner in {p.name for p in self._plugins}:
            return ""
        return f"{kind} {name!r} is not installed: it is part of {PROJECT}-{owner}; pip install '{PROJECT}[{owner}]'"

    def broken_hint(self, name: str) -> str:
        """Return why the plugin that ``name`` belongs to did not load, or the empty string."""
        owners = {name.partition(".")[0], *(_owner(kind, name) for kind in KINDS)}
        for plugin in self._plugins:
            if plugin.name in owners and plugin.error:
                return f" (plugin {plugin.name!r} is broken: {plugin.error})"
            if plugin.name in owners and plugin.disabled:
                return f" (plugin {plugin.name!r} is switched off by {DISABLE})"
        return ""

    def contributions(self, hook: str, record: type[T]) -> tuple[list[tuple[PluginInfo, T]], dict[str, str]]:
        """Return what every plugin answers to a hook, and why that of a plugin could not be had, by its name.

        Args:
            hook: A hook whose answer is a list.
            record: Type of its items.
        """
        self._load_all()
        found: list[tuple[PluginInfo, T]] = []
        broken: dict[str, str] = {}
        for plugin in self._plugins:
            module = self._manager.get_plugin(plugin.name)
            if module is None or plugin.error is not None:
                continue
            try:
                declared = [item for answer in self._call(hook, module) for item in answer]
                wrong = [type(r).__name__ for r in declared if not isinstance(r, record)]
                if wrong:
                    raise PluginError(f"{hook}() must return {_public(record)}, found {wrong[0]}")
                found += [(plugin, item) for item in declared]
            except Exception as error:
                broken[plugin.name] = f"{type(error).__name__}: {error}"
        return found, broken

    def demos(self) -> list[tuple[str, dict[str, Any]]]:
        """Return ``(plugin, fragment)`` for every plugin that takes part in the demo."""
        self._load_all()
        modules = [(p.name, self._manager.get_plugin(p.name)) for p in self._plugins if p.error is None]
        return [
            (name, dict(fragment))
            for name, module in modules
            if module is not None
            for fragment in self._call("uncollapse_demo", module)
        ]

    def conditions(self) -> tuple[tuple[Condition, ...], dict[str, str]]:
        """Return the conditions that a model can be in, and why those of a plugin are left out, by its name."""
        found, broken = self.contributions("uncollapse_conditions", Condition)
        taken: dict[str | int, str] = {}
        for plugin, condition in found:
            for key in (condition.name, condition.exit_code):
                if taken.setdefault(key, plugin.name) != plugin.name:
                    broken[plugin.name] = f"its condition {condition.name!r}: {key!r} is taken by plugin {taken[key]!r}"
        return tuple(c for plugin, c in found if plugin.name not in broken), broken

    def remedies(self) -> tuple[list[tuple[PluginInfo, Remedy]], dict[str, str]]:
        """Return every plugin's remedies with the plugin, and why those of a plugin could not be had, by its name."""
        return self.contributions("uncollapse_remedies", Remedy)

    def register(self, module: ModuleType | object, info: PluginInfo) -> None:
        """Register a plugin's components, all or none.

        Raises:
            PluginError: The plugin states another API version, has no hook, or declares an invalid component.
            DeprecationWarning: It uses something deprecated, and the user turned such warnings into errors.
        """
        check_version(getattr(module, VERSION_NAME, None), self._api)
        declared = self._declared(module, info.name)
        taken: dict[tuple[str, str], Any] = {}
        for config in declared:
            check_config(config, info.name, info.distribution)
            key = _key(config)
            first = taken.setdefault(key, config)
            other = first if first is not config else self._components.get(key)
            if other is not None:
                raise PluginError(f"{_who(config)}.type: {key[0]} {key[1]!r} is taken by {_where(other)}")
        classes = [c for c in declared if not isinstance(c, Lazy)]
        info.deprecations = deprecations(module, classes, PROJECT, self._api)
        for deprecation in info.deprecations:
            deprecation.warn()
        self._components.update(taken)
        info.components += list(taken)

    def _load_all(self) -> None:
        for name in list(self._waiting):
            self._load(name)

    def _load(self, name: str) -> None:
        with self._lock:
            point, info = self._waiting.pop(name, (None, None))
            if point is not None and info is not None:
                self._load_point(point, info)

    def _load_point(self, point: EntryPoint, info: PluginInfo) -> None:
        # A stranger's module may raise anything, or try to exit; the rest must go on working.
        try:
            module = point.load()
        except (Exception, SystemExit) as error:
            info.error = f"importing {point.value} raised {type(error).__name__}: {error}"
            return
        try:
            self.register(module, info)
        except (PluginError, DeprecationWarning) as error:
            info.error = str(error)
        except (Exception, SystemExit) as error:
            info.error = f"its hook raised {type(error).__name__}: {error}"

    def _resolved(self, kind: str, name: str) -> type[ComponentConfig] | None:
        """Return the class of a registered component; where it cannot be had, its plugin is broken as a whole."""
        with self._lock:
            found = self._components.get((kind, name))
            return self._followed(kind, name, found) if isinstance(found, Lazy) else found

    def _followed(self, kind: str, name: str, found: Lazy) -> type[ComponentConfig] | None:
        info = next(p for p in self._plugins if (kind, name) in p.components)
        try:
            config: type[ComponentConfig] = found.load()
            check_config(config, info.name, info.distribution)
            fresh = member_deprecations([config], self._api)
            for deprecation in fresh:
                deprecation.warn()
        except (PluginError, DeprecationWarning) as error:
            info.error = str(error)
            for key in info.components:
                self._components.pop(key, None)
            info.components = []
            return None
        info.deprecations += fresh
        self._components[kind, name] = config
        return config

    def _call(self, hook: str, module: object) -> list[Any]:
        """Return what one plugin answers to a hook, in a list; an empty one where it does not implement the hook."""
        others = [p for p in self._manager.get_plugins() if p is not module]
        answers: list[Any] = self._manager.subset_hook_caller(hook, others)()
        return answers

    def _declared(self, module: object, name: str) -> list[Any]:
        for renamed in renamed_hooks(module, PROJECT, self._api):
            # How pluggy lets an implementation bear another name than its hook.
            getattr(getattr(module, renamed.old), f"{PROJECT}_impl")["specname"] = renamed.new
        check_hooks(module, self._api)
        try:
            self._manager.register(module, name)
        except (pluggy.PluginValidationError, ValueError) as error:
            raise PluginError(str(error)) from error
        callers = self._manager.get_hookcallers(module) or []
        if not callers:
            raise PluginError(
                f"it implements no hook; expected a function {_COMPONENTS}() marked with uncollapse.plugins.hookimpl"
            )
        # A plugin may bring remedies or sections of a report, and no component.
        if _COMPONENTS not in {caller.name for caller in callers}:
            return []
        return declared_by(self._call(_COMPONENTS, module), _COMPONENTS)


def _owner(kind: str, name: str) -> str:
    """Return the name of the plugin that a type belongs to: its prefix, or who may use it without one."""
    prefix, dot, _ = name.partition(".")
    if dot:
        return prefix
    return next((plugin for plugin, kinds in unprefixed().items() if name in kinds.get(kind, ())), "core")


def _key(config: type[ComponentConfig] | Lazy) -> tuple[str, str]:
    return (config.kind, config.type) if isinstance(config, Lazy) else (config.kind, config.type_name())


def _who(config: type[ComponentConfig] | Lazy) -> str:
    return config.path if isinstance(config, Lazy) else config.__qualname__


def _where(config: type[ComponentConfig] | Lazy) -> str:
    return config.path if isinstance(config, Lazy) else f"{config.__module__}.{config.__qualname__}"


def _public(record: type) -> str:
    """Return a record's name as plugins import it: from the public module below the package."""
    return ".".join([*record.__module__.split(".")[:2], record.__qualname__])


def load_registry(points: Iterable[EntryPoint] | None = None, api: PluginAPI = API) -> Registry:
    """Build a registry of the core's parts and of every plugin found.

    Args:
        points: Entry points of plugins; by default those of the group ``uncollapse``.
        api: Version of the plugin API, and what of older ones is still accepted.
    """
    core = [point for point in distribution(PROJECT).entry_points if point.group == PROJECT]
    if not core:
        raise PluginError(f"the metadata of {PROJECT} do not name its own parts; install {PROJECT} anew")
    found = entry_points(group=PROJECT) if points is None else points
    others = [p for p in found if p.dist is None or p.dist.name != PROJECT]
    return Registry([*core, *sorted(others, key=lambda p: p.name)], api)


@cache
def registry() -> Registry:
    """Return the registry of this process; plugins are imported as they are needed."""
    return load_registry()
