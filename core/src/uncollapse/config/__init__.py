"""Pipelines as data: component configs, loading, validation, and errors that name their place."""

from ..component import BuildContext, ComponentConfig
from ..kinds import (
    KINDS,
    DataConfig,
    DecoderConfig,
    EncoderConfig,
    EstimatorConfig,
    LearningRateConfig,
    LikelihoodConfig,
    MomentTransformConfig,
    ObjectiveConfig,
    ObserverConfig,
    OptimizerConfig,
    PosteriorConfig,
    PriorConfig,
    ProbeConfig,
    RegularizerConfig,
    SamplerConfig,
    ScheduleConfig,
    StrategyConfig,
)
from .installed import Installed
from .load import dump_config, load_config, parse_config
from .merge import merged
from .pipeline import EvaluationConfig, PipelineConfig

__all__ = [
    "KINDS",
    "BuildContext",
    "ComponentConfig",
    "DataConfig",
    "DecoderConfig",
    "EncoderConfig",
    "EstimatorConfig",
    "EvaluationConfig",
    "Installed",
    "LearningRateConfig",
    "LikelihoodConfig",
    "MomentTransformConfig",
    "ObjectiveConfig",
    "ObserverConfig",
    "OptimizerConfig",
    "PipelineConfig",
    "PosteriorConfig",
    "PriorConfig",
    "ProbeConfig",
    "RegularizerConfig",
    "SamplerConfig",
    "ScheduleConfig",
    "StrategyConfig",
    "dump_config",
    "load_config",
    "merged",
    "parse_config",
]
