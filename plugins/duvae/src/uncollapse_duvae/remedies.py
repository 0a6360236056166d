"""What the plugin is good for."""

from __future__ import annotations

from uncollapse.plugins import Remedy

__all__ = ["REMEDIES"]

REMEDIES = [
    Remedy(
        name="variance_dropout",
        treats={"collapsed": 1, "partly collapsed": 2},
        fragment={
            "model": {
                "posterior": {
                    "moments": [
                        {"type": "duvae.batch_norm", "gamma": 0.7},
                        {"type": "duvae.variance_dropout", "keep": 0.8},
                    ]
                }
            }
        },
        why="Means keep a fixed spread over a batch and variances drop to a floor, so that posteriors lie apart.",
        cost="Codes depend on the batch in training; spread and drop rate are chosen by hand.",
        source="Shen et al. (2021), eq. 6, eq. 9 and algorithm 1, https://arxiv.org/abs/2110.12381",
        needs={"model.posterior.type": ("gaussian",), "model.prior.type": ("standard_normal",)},
    ),
]
