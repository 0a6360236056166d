"""Moment transforms: ``(mean, logvar, progress) -> (mean, logvar)``, applied to a Gaussian before sampling."""

from .batch_normalized import BatchNormalized

__all__ = [
    "BatchNormalized",
]
