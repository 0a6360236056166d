"""What the plugin brings."""

from __future__ import annotations

from typing import Any

from uncollapse.config import ComponentConfig
from uncollapse.plugins import Remedy, hookimpl

from .regularizer import MutualDivergenceConfig
from .remedies import REMEDIES

__all__ = ["uncollapse_components", "uncollapse_demo", "uncollapse_remedies"]

uncollapse_api_version = 1


@hookimpl
def uncollapse_components() -> list[type[ComponentConfig]]:
    """Return the plugin's component configs."""
    return [MutualDivergenceConfig]


@hookimpl
def uncollapse_demo() -> dict[str, Any]:
    """Return what turns the demo's plain VAE into MAE.

    Near collapse, a nat of rate lowers the penalty by about ``eta`` nats, less a part for ``gamma``: at ``eta = 2``
    collapse is no minimum, whatever the decoder can do without the code.
    """
    return {
        "name": "mae",
        "description": "Adds a term that is large unless the posteriors of different digits lie apart, and evenly so.",
        "regularizers": [{"type": "mae.mutual_divergence", "eta": 2.0, "gamma": 0.5}],
    }


@hookimpl
def uncollapse_remedies() -> list[Remedy]:
    """Return what the plugin is good for."""
    return REMEDIES
