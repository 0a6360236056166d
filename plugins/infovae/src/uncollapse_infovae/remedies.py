"""What the plugin is good for."""

from __future__ import annotations

from uncollapse.plugins import Remedy

__all__ = ["REMEDIES"]

REMEDIES = [
    Remedy(
        name="mmd_vae",
        treats={"collapsed": 2},
        fragment={
            "objective": {"type": "reconstruction"},
            "regularizers": [{"type": "infovae.mmd", "weight": 15.0, "bandwidth": "dimension"}],
        },
        why="The rate of single examples is not charged; only all codes together have to match the prior.",
        cost="No bound is maximized; posteriors may become narrow, and the weight has to be found.",
        source="Zhao, Song and Ermon (2017), section 4.1.3, https://arxiv.org/abs/1706.02262v1",
        slowdown=1.1,
    ),
    Remedy(
        name="mmd_penalty",
        treats={"over-informative": 1},
        fragment={"regularizers": [{"type": "infovae.mmd", "kernel": "inverse_multiquadratic"}]},
        why="All codes together are pulled onto the prior, without a charge on what single codes tell.",
        cost="Kernels of all pairs of a batch at every step; the weight may have to be raised.",
        source="Zhao, Song and Ermon (2017), section 4.1.3, https://arxiv.org/abs/1706.02262v1",
        slowdown=1.2,
    ),
]
