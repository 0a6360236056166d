"""The list of types without a prefix, and of commands, says what the distributions here bring, no more and no less."""

from __future__ import annotations

import json
from importlib.metadata import entry_points

from structure import ROOT, distributions
from uncollapse.plugins import registry

LIST = ROOT / "core" / "src" / "uncollapse" / "plugins" / "unprefixed.json"


def test_the_list_is_what_the_distributions_bring() -> None:
    ours = {name.removeprefix("uncollapse_") for name in distributions()}
    found: dict[str, dict[str, list[str]]] = {}
    for plugin in registry().plugins:
        for kind, name in sorted(plugin.components):
            if plugin.name in ours and "." not in name:
                found.setdefault(plugin.name, {}).setdefault(kind, []).append(name)
    for point in entry_points(group="uncollapse.commands"):
        assert point.dist is not None
        plugin = point.dist.name.removeprefix("uncollapse-")
        if plugin in ours:
            found.setdefault(plugin, {}).setdefault("command", []).append(point.name)
    found = {plugin: {kind: sorted(names) for kind, names in sorted(found[plugin].items())} for plugin in found}
    expected = json.dumps({plugin: found[plugin] for plugin in sorted(found)}, indent=2) + "\n"
    assert LIST.read_text(encoding="utf-8") == expected, f"write this to {LIST}:\n{expected}"
