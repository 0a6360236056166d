"""What the plugin brings."""

from __future__ import annotations

from typing import Any

from uncollapse.config import ComponentConfig
from uncollapse.plugins import Remedy, hookimpl

from .configs import AMIMConfig, JointEntropyConfig, MIMConfig
from .data import MixtureDataConfig
from .estimators import KSGConfig, SampledReconstructionConfig
from .mixture_conditionals import MixtureLikelihoodConfig, MixturePosteriorConfig
from .mixtures import FixedMixtureConfig
from .pca import PCAFashionMNISTConfig
from .remedies import REMEDIES

__all__ = ["uncollapse_components", "uncollapse_demo", "uncollapse_remedies"]

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
        "description": "Asymmetric mutual information machine: digits with their codes are made likely under encoder "
        "and decoder alike, and nothing asks for wide posteriors. Codes keep detail as well as class, so neighbours "
        "share their class less often than where the rate is rationed.",
        "objective": {"type": "mim.amim"},
        "model": {"posterior": {"logvar_range": [-6.0, 2.0]}},
    }


@hookimpl
def uncollapse_remedies() -> list[Remedy]:
    """Return what the plugin is good for."""
    return REMEDIES
