"""Probes: what a simple classifier reads from the codes."""

from ..config.component import ComponentConfig

__all__ = ["COMPONENTS"]

COMPONENTS: tuple[type[ComponentConfig], ...] = ()
