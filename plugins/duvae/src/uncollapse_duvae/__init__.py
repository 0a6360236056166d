"""DU-VAE for uncollapse: diversity and uncertainty awareness (Shen et al., IJCAI 2021)."""

from . import functional
from .estimators import ConditionalEntropy, ConditionalEntropyConfig
from .moments import (
    BatchNormalizedMeans,
    BatchNormalizedMeansConfig,
    VarianceDropout,
    VarianceDropoutConfig,
    VarianceFloor,
    VarianceFloorConfig,
)
from .probes import GroupedProbe, GroupedProbeConfig, LinearProbe, LinearProbeConfig
from .synthetic import SyntheticTextConfig, SyntheticTextSource

__all__ = [
    "BatchNormalizedMeans",
    "BatchNormalizedMeansConfig",
    "ConditionalEntropy",
    "ConditionalEntropyConfig",
    "GroupedProbe",
    "GroupedProbeConfig",
    "LinearProbe",
    "LinearProbeConfig",
    "SyntheticTextConfig",
    "SyntheticTextSource",
    "VarianceDropout",
    "VarianceDropoutConfig",
    "VarianceFloor",
    "VarianceFloorConfig",
    "functional",
]
