"""The whole plugin API: two hooks, and the version that a plugin states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from ..config import ComponentConfig

__all__ = ["API_VERSION", "PROJECT", "Specification", "hookimpl", "hookspec"]

PROJECT = "uncollapse"

API_VERSION = 1
"""Version of the plugin API. A plugin module states the one it was written for as ``uncollapse_api_version``."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Specification:
    """What a plugin may implement."""

    @hookspec
    def uncollapse_components(self) -> Iterable[type[ComponentConfig]]:  # type: ignore[empty-body]
        """Return the config classes of the components that the plugin brings."""

    @hookspec
    def uncollapse_demo(self) -> Mapping[str, Any]:  # type: ignore[empty-body]
        """Return the fragment of a pipeline that turns the demo's plain VAE into this remedy.

        The fragment is merged over the demo's pipeline: mappings by key, everything else replaced. Its ``name`` names
        the run in the demo's table. Optional; a plugin without it stays out of the demo.
        """
