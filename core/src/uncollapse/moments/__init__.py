"""Moment transforms: ``(mean, logvar, progress) -> (mean, logvar)``, applied to a Gaussian before sampling."""

from ..config.component import ComponentConfig
from .batch_normalized import BatchNormalized

__all__ = ["COMPONENTS", "BatchNormalized"]

COMPONENTS: tuple[type[ComponentConfig], ...] = ()
"""Configs that the core registers from this folder."""
