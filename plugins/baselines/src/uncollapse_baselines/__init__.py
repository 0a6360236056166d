"""The remedies for posterior collapse that papers compare with, for uncollapse."""

from . import functional
from .aggressive import Aggressive, AggressiveConfig
from .ar1 import AR1Normal, AR1Prior, AR1PriorConfig
from .batch_norm import BatchNormMeans, BatchNormMeansConfig
from .delta import DeltaMoments, DeltaMomentsConfig
from .free_bits import GroupFreeBits, GroupFreeBitsConfig, SoftFreeBits, SoftFreeBitsConfig
from .iwae import IWAE, IWAEConfig
from .learning_rates import ExponentialConfig, NoamConfig
from .normalized_moments import BatchNormalized
from .plateau import PlateauConfig, PlateauSchedule
from .refinement import FiniteDifferences, Refinement
from .schedules import CyclicalSchedule, CyclicalScheduleConfig
from .semi_amortized import Refined, RefinedConfig, SemiAmortized, SemiAmortizedConfig
from .skip import SkipConvDecoder, SkipConvDecoderConfig, SkipMLPDecoder, SkipMLPDecoderConfig

__all__ = [
    "IWAE",
    "AR1Normal",
    "AR1Prior",
    "AR1PriorConfig",
    "Aggressive",
    "AggressiveConfig",
    "BatchNormMeans",
    "BatchNormMeansConfig",
    "BatchNormalized",
    "CyclicalSchedule",
    "CyclicalScheduleConfig",
    "DeltaMoments",
    "DeltaMomentsConfig",
    "ExponentialConfig",
    "FiniteDifferences",
    "GroupFreeBits",
    "GroupFreeBitsConfig",
    "IWAEConfig",
    "NoamConfig",
    "PlateauConfig",
    "PlateauSchedule",
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
