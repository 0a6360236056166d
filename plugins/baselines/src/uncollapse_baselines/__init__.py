"""The remedies for posterior collapse that papers compare with, for uncollapse."""

from . import functional
from .aggressive import Aggressive, AggressiveConfig
from .ar1 import AR1Normal, AR1Prior, AR1PriorConfig
from .batch_norm import BatchNormMeans, BatchNormMeansConfig
from .delta import DeltaMoments, DeltaMomentsConfig
from .free_bits import GroupFreeBits, GroupFreeBitsConfig, SoftFreeBits, SoftFreeBitsConfig
from .refinement import FiniteDifferences, Refinement
from .semi_amortized import Refined, RefinedConfig, SemiAmortized, SemiAmortizedConfig
from .skip import SkipConvDecoder, SkipConvDecoderConfig, SkipMLPDecoder, SkipMLPDecoderConfig

__all__ = [
    "AR1Normal",
    "AR1Prior",
    "AR1PriorConfig",
    "Aggressive",
    "AggressiveConfig",
    "BatchNormMeans",
    "BatchNormMeansConfig",
    "DeltaMoments",
    "DeltaMomentsConfig",
    "FiniteDifferences",
    "GroupFreeBits",
    "GroupFreeBitsConfig",
    "Refined",
    "RefinedConfig",
    "Refinement",
    "SemiAmortized",
    "SemiAmortizedConfig",
    "SkipConvDecoder",
    "SkipConvDecoderConfig",
    "SkipMLPDecoder",
    "SkipMLPDecoderConfig",
    "SoftFreeBits",
    "SoftFreeBitsConfig",
    "functional",
]
