"""What the plugin brings."""

from __future__ import annotations

from typing import Any

from uncollapse.config import ComponentConfig
from uncollapse.plugins import hookimpl

from .adversarial import AdversarialDivergenceConfig
from .class_mismatch import ClassMismatchConfig
from .codes import LogDeterminantConfig, MMDEstimatorConfig
from .markov_chain import MarkovChainSamplerConfig
from .mmd import MMDConfig
from .stein import SteinConfig

__all__ = ["uncollapse_components", "uncollapse_demo"]

uncollapse_api_version = 1


@hookimpl
def uncollapse_components() -> list[type[ComponentConfig]]:
    """Return the plugin's component configs."""
    return [
        MMDConfig,
        SteinConfig,
        AdversarialDivergenceConfig,
        MarkovChainSamplerConfig,
        MMDEstimatorConfig,
        LogDeterminantConfig,
        ClassMismatchConfig,
    ]


@hookimpl
def uncollapse_demo() -> dict[str, Any]:
    """Return what turns the demo's plain VAE into MMD-VAE: no rate, and a divergence of the aggregate in its place.

    At ``lambda = 15`` a collapse of all codes into one point costs 6 nats of the 24 that the digits take. From about
    100 on the noise of a batch's discrepancy drowns the little that an empty code has to gain, and collapse stays.
    """
    return {
        "name": "infovae",
        "objective": {"type": "reconstruction"},
        "regularizers": [{"type": "infovae.mmd", "weight": 15.0, "bandwidth": "dimension"}],
    }
