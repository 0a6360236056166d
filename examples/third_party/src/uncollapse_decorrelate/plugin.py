"""What the plugin brings."""

from __future__ import annotations

from typing import Any

from uncollapse.config import ComponentConfig
from uncollapse.plugins import hookimpl

from .covariance import CovariancePenaltyConfig

__all__ = ["uncollapse_components", "uncollapse_demo"]

uncollapse_api_version = 1


@hookimpl
def uncollapse_components() -> list[type[ComponentConfig]]:
    """Return the plugin's component configs."""
    return [CovariancePenaltyConfig]


@hookimpl
def uncollapse_demo() -> dict[str, Any]:
    """Return what turns the demo's plain VAE into DIP-VAE-I."""
    return {"name": "dip-vae", "regularizers": [{"type": "decorrelate.covariance"}]}
