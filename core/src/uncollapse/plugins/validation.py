"""What a plugin must get right: the version that it states, its hooks, and every config that it declares."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args, get_origin

from ..component import ComponentConfig
from ..errors import PluginError, did_you_mean
from ..kinds import KINDS
from .hooks import PROJECT, Specification
from .lazy import Lazy
from .policy import VERSION_NAME, PluginAPI

__all__ = ["check_config", "check_hooks", "check_name", "check_version", "declared_by", "unprefixed"]


@cache
def unprefixed() -> Mapping[str, Mapping[str, list[str]]]:
    """Return the types without a prefix that distributions of this project may use: plugin, kind, types.

    They have always been called so in pipelines; a test holds the file to what the distributions bring.
    """
    found: dict[str, dict[str, list[str]]] = json.loads(files(__package__).joinpath("unprefixed.json").read_text())
    return found


def check_version(stated: Any, api: PluginAPI) -> None:
    """Raise a :class:`PluginError` unless a plugin is made for a version of the API that is accepted."""
    if stated in (api.version, *api.older):
        return
    accepted = " and ".join(map(str, sorted({api.version, *api.older})))
    fix = f"the module must set {VERSION_NAME} = {api.version}"
    if isinstance(stated, int) and stated > api.version:
        fix = "update uncollapse, or install an older version of the plugin"
    raise PluginError(f"it targets plugin API {stated!r}, this uncollapse offers {accepted}; {fix}")


def check_hooks(module: object, api: PluginAPI) -> None:
    """Raise a :class:`PluginError` for a hook that does not exist."""
    known = [n for n in vars(Specification) if n.startswith("uncollapse_")]
    allowed = {*known, *(h.old for h in api.hooks)}
    for name, function in vars(module).items():
        if hasattr(function, f"{PROJECT}_impl") and name not in allowed:
            raise PluginError(f"it implements the unknown hook {name!r}{did_you_mean(name, known)}")


def declared_by(answers: list[Any], hook: str) -> list[Any]:
    """Return what a plugin declared, of the answers to one hook, of which there is one at most.

    Raises:
        PluginError: It declares the same component twice, or answered with something else than a list.
    """
    if not answers:
        raise PluginError(f"{hook}() must return config classes, found None")
    if not isinstance(answers[0], Iterable):
        raise PluginError(f"{hook}() must return config classes, found {type(answers[0]).__name__}")
    return list(answers[0])


def check_config(config: Any, plugin: str, distribution: str) -> None:
    """Raise a :class:`PluginError` unless ``config``, a class or a :class:`Lazy`, may be registered by a plugin."""
    if isinstance(config, Lazy):
        if config.kind not in KINDS:
            raise PluginError(f"{config.path}: unknown kind {config.kind!r}{did_you_mean(config.kind, KINDS)}")
        check_name(config.path, config.kind, config.type, plugin, distribution)
        return
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
    check_name(who, config.kind, name, plugin, distribution)
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


def check_name(who: str, kind: str, name: str, plugin: str, distribution: str) -> None:
    """Raise a :class:`PluginError` unless a plugin may give a component this name."""
    ours = distribution == f"{PROJECT}-{plugin}" and name in unprefixed().get(plugin, {}).get(kind, ())
    prefix = "" if plugin == "core" or ours else f"{plugin}."
    if not name.startswith(prefix) or "." in name[len(prefix) :]:
        raise PluginError(f"{who}.type: expected {prefix + 'name'!r} (the plugin's name first), found {name!r}")
