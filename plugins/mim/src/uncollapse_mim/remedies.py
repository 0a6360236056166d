"""What the plugin is good for."""

from __future__ import annotations

from uncollapse.plugins import Remedy

__all__ = ["REMEDIES"]

REMEDIES = [
    Remedy(
        name="amim",
        treats={"collapsed": 3},
        fragment={"objective": {"type": "mim.amim"}, "model": {"posterior": {"logvar_range": [-6.0, 2.0]}}},
        why="High mutual information is part of what is learned, and a code that tells nothing is no minimum.",
        cost="No bound is maximized; posteriors become narrow, and codes leave the prior unless it is learned.",
        source="Livne, Swersky and Fleet (2019), appendix C.3, https://arxiv.org/abs/1910.03175",
        slowdown=1.1,
        needs={"model.posterior.type": ("gaussian",)},
    ),
]
