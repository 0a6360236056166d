"""What the plugin brings."""

from __future__ import annotations

from typing import Any

from uncollapse.config import ComponentConfig
from uncollapse.plugins import hookimpl

from .classifier import OnlineClassifierConfig
from .clipping import LatentClippingConfig
from .modified_kl import ModifiedKLConfig
from .probe import MLPProbeConfig
from .traversal import TraversalSamplerConfig

__all__ = ["uncollapse_components", "uncollapse_demo"]

uncollapse_api_version = 1


@hookimpl
def uncollapse_components() -> list[type[ComponentConfig]]:
    """Return the plugin's component configs."""
    return [
        ModifiedKLConfig,
        LatentClippingConfig,
        OnlineClassifierConfig,
        MLPProbeConfig,
        TraversalSamplerConfig,
    ]


@hookimpl
def uncollapse_demo() -> dict[str, Any]:
    """Return what turns the demo's plain VAE into μ-VAE #1: no rate, the modified KL term, and latent clipping.

    The rate's place is taken by terms that do not care how far apart single means are. The floor of log-variances is
    ours; without one they fall as long as training goes on.
    """
    return {
        "name": "muvae",
        "model": {"posterior": {"moments": [{"type": "muvae.latent_clipping", "c": 3.0}], "logvar_range": [-10, 10]}},
        "objective": {"type": "reconstruction"},
        "regularizers": [{"type": "muvae.modified_kl"}],
    }
