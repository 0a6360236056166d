"""What the plugin is good for."""

from __future__ import annotations

from uncollapse.plugins import Remedy

__all__ = ["REMEDIES"]

REMEDIES = [
    Remedy(
        name="mutual_divergence",
        treats={"collapsed": 1, "partly collapsed": 1},
        fragment={"regularizers": [{"type": "mae.mutual_divergence", "eta": 2.0, "gamma": 0.5}]},
        why="Posteriors of different examples are driven apart in every dimension, so that collapse is no minimum.",
        cost="Pairs of a batch at every step; rate and distortion are no longer those of the bound alone.",
        source="Ma, Zhou and Hovy (2019), eq. 7 and 8, https://arxiv.org/abs/1901.01498",
        slowdown=1.1,
        needs={"model.posterior.type": ("gaussian", "iaf")},
    ),
]
