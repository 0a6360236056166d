"""What the plugin brings."""

from __future__ import annotations

from typing import Any

from uncollapse.config import ComponentConfig
from uncollapse.plugins import Remedy, hookimpl

from .classifier import OnlineClassifierConfig
from .clipping import LatentClippingConfig
from .modified_kl import ModifiedKLConfig
from .probe import MLPProbeConfig
from .remedies import REMEDIES
from .traversal import TraversalSamplerConfig

__all__ = ["uncollapse_components", "uncollapse_demo", "uncollapse_remedies"]

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
    """Return what turns the demo's plain VAE into a μ-VAE: no rate, the modified KL term, and latent clipping.

    The paper's own numbers (means summed over everything, weight 1, c = 3) keep the information, too, but put the codes
    so far from the prior that digits of one class lie no nearer to one another than others. Means in every dimension,
    a smaller weight and a tighter limit were chosen among some fifteen such settings on seeds 1 and 2. The floor of the
    log-variances is ours; without one they fall as long as training goes on.
    """
    return {
        "name": "muvae",
        "description": "The rate is left out. Only the mean of all codes is held at zero, in every dimension; how far "
        "apart single codes lie is free up to a limit. Codes keep detail as well as class, so neighbours share their "
        "class less often than where the rate is rationed.",
        "model": {"posterior": {"moments": [{"type": "muvae.latent_clipping", "c": 1.0}], "logvar_range": [-3, 10]}},
        "objective": {"type": "reconstruction"},
        "regularizers": [{"type": "muvae.modified_kl", "mean": "per_dimension", "weight": 0.3}],
    }


@hookimpl
def uncollapse_remedies() -> list[Remedy]:
    """Return what the plugin is good for."""
    return REMEDIES
