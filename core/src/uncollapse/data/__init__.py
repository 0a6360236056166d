"""Data sources: batches, and what they look like."""

from ..config.component import ComponentConfig

__all__ = ["COMPONENTS"]

COMPONENTS: tuple[type[ComponentConfig], ...] = ()
