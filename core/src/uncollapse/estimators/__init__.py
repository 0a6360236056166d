"""Estimators: measured numbers with units and standard errors."""

from ..config.component import ComponentConfig

__all__ = ["COMPONENTS"]

COMPONENTS: tuple[type[ComponentConfig], ...] = ()
