"""Sections that installed plugins contribute to the page."""

from __future__ import annotations

from uncollapse.plugins import ReportSection, registry

__all__ = ["contributed"]

_OWN = {
    *("main", "figures", "verdict", "diagnosis", "numbers", "training", "kl", "pictures", "reconstructions", "samples"),
    *("traversals", "latents", "setup"),
}
"""Anchors that the page has already."""


def contributed() -> tuple[list[ReportSection], dict[str, str]]:
    """Return the sections of installed plugins, and why those of a plugin are left out, by its name."""
    found, broken = registry().contributions("uncollapse_sections", ReportSection)
    taken = dict.fromkeys(_OWN, "the page itself")
    for plugin, section in found:
        if not section.name.replace("-", "").isalnum():
            broken[plugin.name] = f"a section is named with letters, digits and dashes, found {section.name!r}"
        elif taken.setdefault(section.name, plugin.name) != plugin.name:
            broken[plugin.name] = f"its section {section.name!r} is taken by {taken[section.name]}"
    return [section for plugin, section in found if plugin.name not in broken], broken
