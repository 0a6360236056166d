"""Distributions that the parts return; everything here is a ``torch.distributions.Distribution``."""

from .hierarchy import TwoLevel, TwoLevelNormal

__all__ = ["TwoLevel", "TwoLevelNormal"]
