"""The list of types without a prefix says what the distributions of this repository bring, no more and no less."""

from __future__ import annotations

import json

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
    expected = json.dumps({plugin: found[plugin] for plugin in sorted(found)}, indent=2) + "\n"
    assert LIST.read_text(encoding="utf-8") == expected, f"write this to {LIST}:\n{expected}"
