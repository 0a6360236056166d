"""What the plugin is good for."""

from __future__ import annotations

from uncollapse.plugins import Remedy

__all__ = ["REMEDIES"]

REMEDIES = [
    Remedy(
        name="modified_kl",
        treats={"collapsed": 3},
        fragment={
            "model": {
                "posterior": {"moments": [{"type": "muvae.latent_clipping", "c": 3.0}], "logvar_range": [-10, 10]}
            },
            "objective": {"type": "reconstruction"},
            "regularizers": [{"type": "muvae.modified_kl"}],
        },
        why="Only the mean of all means is pulled to zero, so that single means are free to tell examples apart.",
        cost="No bound is maximized; posteriors become narrow, down to their floor, and codes leave the prior.",
        source="Bridging the ELBO and MMD (mu-VAE), eq. 5 and 6 and table 3; anonymous, under review for ICLR 2020",
        needs={"model.posterior.type": ("gaussian",)},
    ),
]
