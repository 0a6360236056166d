"""The core's own components, registered through the same hook as everybody's."""

from __future__ import annotations

from importlib import import_module

from ..config.component import ComponentConfig
from .hooks import hookimpl
from .policy import API_VERSION
from .remedies import Remedy

__all__ = ["uncollapse_components", "uncollapse_remedies"]

uncollapse_api_version = API_VERSION

_HOMES = (
    "data",
    "encoders",
    "posteriors",
    "moments",
    "priors",
    "decoders",
    "likelihoods",
    "objectives",
    "schedules",
    "training.optimizers",
    "training.learning_rates",
    "estimators",
    "probes",
    "samplers",
    "observers",
)


@hookimpl
def uncollapse_components() -> list[type[ComponentConfig]]:
    """Return the ``COMPONENTS`` of every folder of parts."""
    found: list[type[ComponentConfig]] = []
    for home in _HOMES:
        found.extend(import_module(f"uncollapse.{home}").COMPONENTS)
    return found


@hookimpl
def uncollapse_remedies() -> list[Remedy]:
    """Return what the core's own parts are good for."""
    remedies: list[Remedy] = import_module("uncollapse.diagnosis.core_remedies").REMEDIES
    return remedies
