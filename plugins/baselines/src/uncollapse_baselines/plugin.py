"""What the plugin brings."""

from __future__ import annotations

from uncollapse.config import ComponentConfig
from uncollapse.plugins import Remedy, hookimpl

from .aggressive import AggressiveConfig
from .ar1 import AR1PriorConfig
from .batch_norm import BatchNormMeansConfig
from .delta import DeltaMomentsConfig
from .free_bits import GroupFreeBitsConfig, SoftFreeBitsConfig
from .iwae import IWAEConfig
from .learning_rates import ExponentialConfig, NoamConfig
from .plateau import PlateauConfig
from .remedies import REMEDIES
from .schedules import CyclicalScheduleConfig
from .semi_amortized import RefinedConfig, SemiAmortizedConfig
from .skip import SkipConvDecoderConfig, SkipMLPDecoderConfig

__all__ = ["uncollapse_components", "uncollapse_remedies"]

uncollapse_api_version = 1


@hookimpl
def uncollapse_components() -> list[type[ComponentConfig]]:
    """Return the plugin's component configs."""
    return [
        IWAEConfig,
        ExponentialConfig,
        NoamConfig,
        PlateauConfig,
        CyclicalScheduleConfig,
        DeltaMomentsConfig,
        BatchNormMeansConfig,
        AR1PriorConfig,
        GroupFreeBitsConfig,
        SoftFreeBitsConfig,
        SemiAmortizedConfig,
        RefinedConfig,
        AggressiveConfig,
        SkipMLPDecoderConfig,
        SkipConvDecoderConfig,
    ]


@hookimpl
def uncollapse_remedies() -> list[Remedy]:
    """Return what the plugin is good for."""
    return REMEDIES
