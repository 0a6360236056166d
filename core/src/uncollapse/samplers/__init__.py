"""Samplers: draws from a trained model."""

from ..config.component import ComponentConfig

__all__ = ["COMPONENTS"]

COMPONENTS: tuple[type[ComponentConfig], ...] = ()
