"""Moment transforms: ``(mean, logvar, progress) -> (mean, logvar)``, applied to a Gaussian before sampling."""

from ..config.component import ComponentConfig

__all__ = ["COMPONENTS"]

COMPONENTS: tuple[type[ComponentConfig], ...] = ()
