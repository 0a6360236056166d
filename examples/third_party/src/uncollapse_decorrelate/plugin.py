"""What the plugin brings."""

from __future__ import annotations

from typing import Any

from uncollapse.config import ComponentConfig
from uncollapse.findings import Condition
from uncollapse.plugins import Measurement, Remedy, ReportSection, hookimpl

from .covariance import CovariancePenaltyConfig

__all__ = [
    "uncollapse_components",
    "uncollapse_conditions",
    "uncollapse_demo",
    "uncollapse_measurements",
    "uncollapse_remedies",
    "uncollapse_sections",
]

uncollapse_api_version = 1


@hookimpl
def uncollapse_components() -> list[type[ComponentConfig]]:
    """Return the plugin's component configs."""
    return [CovariancePenaltyConfig]


@hookimpl
def uncollapse_demo() -> dict[str, Any]:
    """Return what turns the demo's plain VAE into DIP-VAE-I."""
    return {"name": "dip-vae", "regularizers": [{"type": "decorrelate.covariance"}]}


@hookimpl
def uncollapse_remedies() -> list[Remedy]:
    """Return what the penalty treats: the condition that the plugin itself adds."""
    return [
        Remedy(
            name="covariance",
            treats={"correlated dimensions": 1},
            fragment={"regularizers": [{"type": "decorrelate.covariance"}]},
            why="The covariance of posterior means is held at the identity, so that dimensions tell different things.",
            cost="A K by K matrix at every step, and a rate that pays for every dimension.",
            source="Kumar et al. (2018), eq. 6, https://arxiv.org/abs/1711.00848",
            needs={"model.posterior.type": ("gaussian",)},
        )
    ]


@hookimpl
def uncollapse_measurements() -> list[Measurement]:
    """Return the largest correlation of two dimensions."""
    from .correlations import CORRELATIONS

    return [CORRELATIONS]


@hookimpl
def uncollapse_conditions() -> list[Condition]:
    """Return the condition that two dimensions tell the same."""
    from .correlations import CORRELATED

    return [CORRELATED]


@hookimpl
def uncollapse_sections() -> list[ReportSection]:
    """Return the table of correlations."""
    from .correlations import SECTION

    return [SECTION]
