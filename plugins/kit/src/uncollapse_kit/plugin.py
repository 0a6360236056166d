"""What the distribution brings."""

from __future__ import annotations

from uncollapse.config import ComponentConfig
from uncollapse.plugins import hookimpl

__all__ = ["uncollapse_components"]

uncollapse_api_version = 1


@hookimpl
def uncollapse_components() -> list[type[ComponentConfig]]:
    """Return the configs of the components: none."""
    return []
