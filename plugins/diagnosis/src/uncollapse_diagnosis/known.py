"""The list of remedies that ``pip`` could add: what the project's plugins say of themselves, kept as data.

A plugin that is not installed cannot be asked. ``python -m uncollapse_diagnosis.known`` writes the list anew from those
that are; a test holds the list against them.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from uncollapse.files import write_atomically
from uncollapse.plugins import registry

from .prescriptions import OWN

__all__ = ["declared_remedies", "dump"]

_HEAD = """\
# Distributions that bring remedies, for those who do not have them installed; `python -m uncollapse_diagnosis.known`
# writes this file. It is data: no code depends on an entry, and an installed plugin speaks for itself.
"""


def declared_remedies() -> dict[str, Any]:
    """Return what installed plugins declare, in the form of the list; fragments made by a function are left out."""
    plugins: dict[str, dict[str, Any]] = {}
    for info, remedy in registry().remedies()[0]:
        if info.name == OWN or callable(remedy.fragment):
            continue
        entry = plugins.setdefault(info.name, {"plugin": info.name, "distribution": info.distribution, "remedies": []})
        plain = asdict(remedy)
        plain["needs"] = {place: list(values) for place, values in remedy.needs.items()}
        entry["remedies"].append(plain)
    return {"plugins": [plugins[name] for name in sorted(plugins)]}


def dump() -> str:
    """Return the list as YAML."""
    return _HEAD + yaml.safe_dump(declared_remedies(), sort_keys=False, allow_unicode=True, width=110)


if __name__ == "__main__":
    write_atomically(Path(__file__).with_name("known_remedies.yaml"), dump())
