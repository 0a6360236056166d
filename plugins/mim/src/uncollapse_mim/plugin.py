"""What the plugin brings."""

from __future__ import annotations

from typing import Any

from uncollapse.config import ComponentConfig
from uncollapse.plugins import hookimpl

from .configs import AMIMConfig, JointEntropyConfig, MIMConfig
from .data import MixtureDataConfig
from .estimators import KSGConfig, SampledReconstructionConfig
from .mixture_conditionals import MixtureLikelihoodConfig, MixturePosteriorConfig
from .mixtures import FixedMixtureConfig
from .pca import PCAFashionMNISTConfig

__all__ = ["uncollapse_components", "uncollapse_demo"]

uncollapse_api_version = 1


@hookimpl
def uncollapse_components() -> list[type[ComponentConfig]]:
    """Return the plugin's component configs."""
    return [
        AMIMConfig,
        MIMConfig,
        JointEntropyConfig,
        FixedMixtureConfig,
        MixturePosteriorConfig,
        MixtureLikelihoodConfig,
        MixtureDataConfig,
        PCAFashionMNISTConfig,
        KSGConfig,
        SampledReconstructionConfig,
    ]


@hookimpl
def uncollapse_demo() -> dict[str, Any]:
    """Return what turns the demo's plain VAE into A-MIM.

    A-MIM has no term for the posterior's entropy; the limits are those of the paper's image models (VampPrior's code).
    """
    return {
        "name": "amim",
        "objective": {"type": "mim.amim"},
        "model": {"posterior": {"logvar_range": [-6.0, 2.0]}},
    }
