"""Discovery by metadata, validation at registration, and isolation: a broken plugin takes nothing else down."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points, version
from types import ModuleType
from typing import Any, Literal, get_args, get_origin

import pluggy

from ..config.component import KINDS, ComponentConfig
from ..errors import PluginError, did_you_mean
from .hooks import PROJECT, Specification
from .policy import API, VERSION_NAME, Deprecation, PluginAPI, deprecations, renamed_hooks
from .remedies import Remedy

__all__ = ["PluginInfo", "Registry", "load_registry", "registry"]

DISABLE = "UNCOLLAPSE_DISABLE_PLUGINS"
"""Environment variable: ``all``, or names of plugins to leave out, separated by commas."""


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
    """The installed components by kind and type, and the plugins that brought them.

    Args:
        api: Version of the plugin API, and what of older ones is still accepted.
    """

    def __init__(self, api: PluginAPI = API) -> None:
        self.plugins: list[PluginInfo] = []
        self._api = api
        self._components: dict[str, dict[str, type[ComponentConfig]]] = {kind: {} for kind in KINDS}
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(Specification)

    def names(self, kind: str) -> list[str]:
        """Return the type names of one kind, the core's first."""
        return sorted(self._components[kind], key=lambda n: ("." in n, n))

    def find(self, kind: str, name: str) -> type[ComponentConfig] | None:
        """Return the config class of a component, or None."""
        return self._components[kind].get(name)

    def components(self, kind: str | None = None) -> list[type[ComponentConfig]]:
        """Return the config classes of one kind, or of all."""
        kinds = [kind] if kind else list(KINDS)
        return [self._components[k][n] for k in kinds for n in self.names(k)]

    def get(self, name: str) -> type[ComponentConfig]:
        """Return the component of any kind with this type name, or ``kind:name`` where two kinds share a name.

        Raises:
            PluginError: No component has the name, or several kinds do.
        """
        wanted_kind, _, bare = name.rpartition(":")
        found = [c for c in self.components() if c.type_name() == bare and wanted_kind in ("", c.kind)]
        if len(found) == 1:
            return found[0]
        if found:
            choices = ", ".join(f"{c.kind}:{bare}" for c in found)
            raise PluginError(f"several kinds of component are named {bare!r}; say which: {choices}")
        known = [c.type_name() for c in self.components()]
        raise PluginError(
            f"no installed component is named {name!r}{did_you_mean(bare, known)}{self.broken_hint(bare)}; "
            "`uncollapse plugins` lists all"
        )

    def home(self, config: type[ComponentConfig]) -> PluginInfo:
        """Return the plugin that brought a registered component."""
        return next(p for p in self.plugins if (config.kind, config.type_name()) in p.components)

    def broken_hint(self, name: str) -> str:
        """Return why the plugin that ``name`` belongs to did not load, or the empty string."""
        prefix = name.partition(".")[0]
        for plugin in self.plugins:
            if plugin.name == prefix and plugin.error:
                return f" (plugin {prefix!r} is broken: {plugin.error})"
            if plugin.name == prefix and plugin.disabled:
                return f" (plugin {prefix!r} is switched off by {DISABLE})"
        return ""

    def register(self, module: ModuleType | object, info: PluginInfo) -> None:
        """Register a plugin's components, all or none.

        Raises:
            PluginError: The plugin states another API version, has no hook, or declares an invalid component.
            DeprecationWarning: It uses something deprecated, and the user turned such warnings into errors.
        """
        self._check_version(getattr(module, VERSION_NAME, None))
        declared = self._declared(module, info.name)
        for config in declared:
            self._check(config, info)
        taken: dict[tuple[str, str], type[ComponentConfig]] = {}
        for config in declared:
            first = taken.setdefault((config.kind, config.type_name()), config)
            if first is not config:
                raise PluginError(
                    f"{config.__qualname__}.type: {config.kind} {config.type_name()!r} is taken by "
                    f"{first.__module__}.{first.__qualname__}"
                )
        info.deprecations = deprecations(module, declared, PROJECT, self._api)
        for deprecation in info.deprecations:
            deprecation.warn()
        for config in declared:
            name = config.type_name()
            self._components[config.kind][name] = config
            info.components.append((config.kind, name))

    def demos(self) -> list[tuple[str, dict[str, Any]]]:
        """Return ``(plugin, fragment)`` for every plugin that takes part in the demo."""
        found = []
        for plugin in self.plugins:
            module = self._manager.get_plugin(plugin.name)
            if module is not None and plugin.error is None:
                found += [(plugin.name, dict(fragment)) for fragment in self._call("uncollapse_demo", module)]
        return found

    def remedies(self) -> tuple[list[tuple[PluginInfo, Remedy]], dict[str, str]]:
        """Return every plugin's remedies with the plugin, and why those of a plugin could not be had, by its name."""
        found: list[tuple[PluginInfo, Remedy]] = []
        broken: dict[str, str] = {}
        for plugin in self.plugins:
            module = self._manager.get_plugin(plugin.name)
            if module is None or plugin.error is not None:
                continue
            try:
                declared = [remedy for answer in self._call("uncollapse_remedies", module) for remedy in answer]
                wrong = [type(r).__name__ for r in declared if not isinstance(r, Remedy)]
                if wrong:
                    raise PluginError(f"uncollapse_remedies() must return uncollapse.plugins.Remedy, found {wrong[0]}")
                found += [(plugin, remedy) for remedy in declared]
            except Exception as error:
                broken[plugin.name] = f"{type(error).__name__}: {error}"
        return found, broken

    def _call(self, hook: str, module: object) -> list[Any]:
        """Return what one plugin answers to a hook, in a list; an empty one where it does not implement the hook."""
        others = [p for p in self._manager.get_plugins() if p is not module]
        answers: list[Any] = self._manager.subset_hook_caller(hook, others)()
        return answers

    def _check_version(self, stated: Any) -> None:
        api = self._api
        if stated in (api.version, *api.older):
            return
        accepted = " and ".join(map(str, sorted({api.version, *api.older})))
        fix = f"the module must set {VERSION_NAME} = {api.version}"
        if isinstance(stated, int) and stated > api.version:
            fix = "update uncollapse, or install an older version of the plugin"
        raise PluginError(f"it targets plugin API {stated!r}, this uncollapse offers {accepted}; {fix}")

    def _declared(self, module: object, name: str) -> list[type[ComponentConfig]]:
        hook = "uncollapse_components"
        known = [n for n in vars(Specification) if n.startswith("uncollapse_")]
        old = renamed_hooks(module, PROJECT, self._api)
        for renamed in old:
            # How pluggy lets an implementation bear another name than its hook.
            getattr(getattr(module, renamed.old), f"{PROJECT}_impl")["specname"] = renamed.new
        wrong = [
            n
            for n, f in vars(module).items()
            if hasattr(f, f"{PROJECT}_impl") and n not in known and n not in {h.old for h in self._api.hooks}
        ]
        if wrong:
            raise PluginError(f"it implements the unknown hook {wrong[0]!r}{did_you_mean(wrong[0], known)}")
        try:
            self._manager.register(module, name)
        except (pluggy.PluginValidationError, ValueError) as error:
            raise PluginError(str(error)) from error
        results = self._call(hook, module)
        if not results:
            if any(hasattr(getattr(module, n, None), f"{PROJECT}_impl") for n in [hook, *(r.old for r in old)]):
                raise PluginError(f"{hook}() must return config classes, found None")
            raise PluginError(
                f"it implements no hook; expected a function {hook}() marked with uncollapse.plugins.hookimpl"
            )
        result = results[0]
        if not isinstance(result, Iterable):
            raise PluginError(f"{hook}() must return config classes, found {type(result).__name__}")
        return list(result)

    def _check(self, config: Any, info: PluginInfo) -> None:
        who = getattr(config, "__qualname__", repr(config))
        if not (inspect.isclass(config) and issubclass(config, ComponentConfig)):
            raise PluginError(f"{who}: expected a subclass of uncollapse.config.ComponentConfig, found {config!r}")
        if config.kind not in KINDS or not issubclass(config, KINDS[config.kind]):
            kinds = ", ".join(c.__name__ for c in KINDS.values())
            raise PluginError(f"{who}: expected a subclass of one of {kinds}; found kind {config.kind!r}")
        annotation = config.model_fields["type"].annotation
        name = config.model_fields["type"].default
        if get_origin(annotation) is not Literal or get_args(annotation) != (name,) or not isinstance(name, str):
            raise PluginError(
                f'{who}.type: expected `type: Literal["name"] = "name"`, found annotation {annotation!r} '
                f"with default {name!r}"
            )
        prefix = "" if info.name == "core" else f"{info.name}."
        if not name.startswith(prefix) or "." in name[len(prefix) :]:
            raise PluginError(f"{who}.type: expected {prefix + 'name'!r} (the plugin's name first), found {name!r}")
        missing = sorted(getattr(config, "__abstractmethods__", ()))
        missing += [
            m
            for m in ("build", "epochs", "latent_shape")
            if getattr(getattr(config, m, None), "__isabstractmethod__", False)
        ]
        if missing:
            base = KINDS[config.kind]
            signature = inspect.signature(base.build) if hasattr(base, "build") else ""
            raise PluginError(f"{who}: {', '.join(sorted(set(missing)))} is not implemented; expected build{signature}")
        if not (config.__doc__ or "").strip() or config.__doc__ == KINDS[config.kind].__doc__:
            raise PluginError(f"{who}: expected a docstring that says what it does and where it comes from")
        if name in self._components[config.kind]:
            other = self._components[config.kind][name]
            raise PluginError(f"{who}.type: {config.kind} {name!r} is taken by {other.__module__}.{other.__qualname__}")


def load_registry(points: Iterable[EntryPoint] | None = None, api: PluginAPI = API) -> Registry:
    """Build a registry of the core's parts and of every plugin found.

    Args:
        points: Entry points to load; by default those of the group ``uncollapse``.
        api: Version of the plugin API, and what of older ones is still accepted.
    """
    from . import builtin

    loaded = Registry(api)
    core = PluginInfo("core", "uncollapse", version("uncollapse"))
    loaded.register(builtin, core)
    loaded.plugins.append(core)
    switched_off = {n.strip() for n in os.environ.get(DISABLE, "").split(",") if n.strip()}
    found = entry_points(group=PROJECT) if points is None else points
    for point in sorted(found, key=lambda p: p.name):
        dist = point.dist
        info = PluginInfo(point.name, dist.name if dist else "?", dist.version if dist else "?")
        loaded.plugins.append(info)
        if "all" in switched_off or point.name in switched_off:
            info.disabled = True
            continue
        if sum(p.name == point.name for p in loaded.plugins) > 1:
            info.error = f"another installed distribution already provides a plugin named {point.name!r}"
            continue
        # A stranger's module may raise anything, or try to exit; the rest must go on working.
        try:
            module = point.load()
        except (Exception, SystemExit) as error:
            info.error = f"importing {point.value} raised {type(error).__name__}: {error}"
            continue
        try:
            loaded.register(module, info)
        except (PluginError, DeprecationWarning) as error:
            info.error = str(error)
        except (Exception, SystemExit) as error:
            info.error = f"its hook raised {type(error).__name__}: {error}"
    return loaded


@cache
def registry() -> Registry:
    """Return the registry of this process, loaded on first use."""
    return load_registry()
