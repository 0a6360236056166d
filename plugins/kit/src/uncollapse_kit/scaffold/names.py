"""Names of a new plugin: what was asked for, checked, and everything that follows from it."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec

from uncollapse.errors import PluginError

from .kinds import Kind

__all__ = ["Names", "check_free", "names_for", "placeholders"]

_LONGEST = 30
_PREFIX = "uncollapse"


@dataclass(frozen=True)
class Names:
    """What everything in a new distribution is called.

    Args:
        distribution: ``uncollapse-my-norm``.
        package: ``uncollapse_my_norm``.
        plugin: ``my_norm``: the entry point, and the prefix of component types.
        component: ``regularizer``, behind the prefix; the module's name, too.
        name: ``MyNormRegularizer``: the class; its config has ``Config`` behind it.
    """

    distribution: str
    package: str
    plugin: str
    component: str
    name: str

    @property
    def type(self) -> str:
        """Type of the component in pipelines."""
        return f"{self.plugin}.{self.component}"


def names_for(name: str, kind: Kind, component: str | None = None) -> Names:
    """Return the names that follow from the plugin's and the component's.

    Args:
        name: Of the plugin, with ``-`` or ``_`` between words.
        kind: Of the component.
        component: Of the component, without the plugin's; by default its kind's.

    Raises:
        PluginError: A name is no name that pip, Python and pipelines all accept.
    """
    if re.match(rf"{_PREFIX}[-_.]", name):
        raise PluginError(
            f"NAME {name!r}: the distribution gets the prefix '{_PREFIX}-' by itself; use {name[len(_PREFIX) + 1 :]!r}"
        )
    _check("NAME", name, r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", "my-norm")
    plugin = name.replace("-", "_")
    if plugin in ("core", _PREFIX):
        raise PluginError(f"NAME {name!r}: uncollapse's own parts have this name; choose another")
    if component is not None:
        _check("--component", component, r"[a-z][a-z0-9]*(_[a-z0-9]+)*", "total_correlation")
        if component in ("plugin", "conformance"):
            taken = "plugin.py and tests/test_conformance.py"
            raise PluginError(f"--component {component!r}: {taken} are there already; choose another name")
    part = component or kind.value
    words = part if component else f"{plugin}_{part}"
    return Names(
        distribution=f"{_PREFIX}-{plugin.replace('_', '-')}",
        package=f"{_PREFIX}_{plugin}",
        plugin=plugin,
        component=part,
        name="".join(word.capitalize() for word in words.split("_")),
    )


def check_free(names: Names) -> None:
    """Check that no installed distribution has these names; nothing is imported.

    Raises:
        PluginError: One has; the message says which.
    """
    for point in entry_points(group=_PREFIX):
        if point.name == names.plugin:
            by = f"{point.dist.name} {point.dist.version}" if point.dist else "an installed distribution"
            raise PluginError(
                f"NAME {names.plugin!r}: {by} already provides a plugin of this name, and the second one would not "
                "load; choose another, or uninstall that one"
            )
    if find_spec(names.package) is not None:
        raise PluginError(f"NAME {names.plugin!r}: a package {names.package!r} is installed already; choose another")


def _check(what: str, name: str, pattern: str, example: str) -> None:
    if not re.fullmatch(pattern, name) or keyword.iskeyword(name):
        raise PluginError(
            f"{what} {name!r}: expected words of lower-case letters and digits, the first of which starts with a "
            f"letter, such as {example!r}; no word of Python's own"
        )
    if len(name) > _LONGEST:
        raise PluginError(f"{what} {name!r}: has {len(name)} characters; use at most {_LONGEST}")


def placeholders(names: Names) -> Mapping[str, str]:
    """Return what the templates' placeholders for names stand for."""
    return {
        "distribution": names.distribution,
        "package": names.package,
        "plugin": names.plugin,
        "module": names.component,
        "type": names.type,
        "name": names.name,
    }
