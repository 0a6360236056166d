"""What the plugin brings."""

from __future__ import annotations

from typing import Any

from uncollapse.config import ComponentConfig
from uncollapse.plugins import hookimpl

from .regularizer import MutualDivergenceConfig

__all__ = ["uncollapse_components", "uncollapse_demo"]

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
    return {"name": "mae", "regularizers": [{"type": "mae.mutual_divergence", "eta": 2.0, "gamma": 0.5}]}
