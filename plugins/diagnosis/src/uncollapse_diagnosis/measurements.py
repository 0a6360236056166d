"""What a diagnosis measures: its own measurements, and those that plugins contribute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from uncollapse.errors import ConfigError
from uncollapse.plugins import Measurement, registry
from uncollapse.protocols import Estimate, Estimates

from .codes import Codes
from .decoder_use import decoder_use_estimates
from .information import information_estimates, unit_estimate, units_of
from .prior_match import prior_mismatch
from .refinement import inference_gap
from .settings import Settings
from .subject import Subject

__all__ = ["OWN", "contributed", "measure"]


def measure(
    measurements: Iterable[Measurement], subject: Subject, codes: Codes, settings: Settings
) -> tuple[dict[str, Estimate], dict[str, str]]:
    """Return all estimates by name, and why something was not measured.

    Every measurement starts from the same random state, so that a number does not depend on which others are taken.
    """
    found: dict[str, Estimate] = {}
    skipped: dict[str, str] = {}
    for measurement in measurements:
        torch.manual_seed(settings.seed)
        try:
            found |= measurement.measure(subject, codes, settings)
        except ConfigError as reason:
            skipped[measurement.name] = str(reason)
        except Exception as error:
            if measurement in OWN:
                raise
            # A stranger's measurement; the diagnosis must go on without it.
            skipped[measurement.name] = f"{type(error).__name__}: {error}"
    return found, skipped


def contributed() -> tuple[list[Measurement], Mapping[str, str]]:
    """Return the measurements of installed plugins, and why those of a plugin could not be had, by its name."""
    found, broken = registry().contributions("uncollapse_measurements", Measurement)
    return [measurement for _, measurement in found], broken


def _information(subject: Any, codes: Codes, settings: Settings) -> Estimates:
    return information_estimates(codes, settings)


def _units(subject: Any, codes: Codes, settings: Settings) -> Estimates:
    return {"unit_information": unit_estimate(units_of(codes), codes.count)} if codes.count > 1 else {}


def _prior_match(subject: Any, codes: Codes, settings: Settings) -> Estimates:
    return {"prior_mismatch": prior_mismatch(codes)} if codes.count > 1 else {}


def _decoder_use(subject: Any, codes: Codes, settings: Settings) -> Estimates:
    return decoder_use_estimates(subject, codes, settings) if codes.count > 1 else {}


def _refinement(subject: Any, codes: Codes, settings: Settings) -> Estimates:
    if not settings.refined_examples:
        raise ConfigError("refined_examples is 0")
    return {"inference_gap": inference_gap(subject, codes, settings)}


OWN = (
    Measurement(
        "information",
        _information,
        {
            "rate": "KL(q(z|x) || p(z))",
            "mutual_information": "at most log N = {cap}",
            "posterior_variance": "to the prior's; 1 where collapsed",
        },
    ),
    Measurement("unit_information", _units, {"unit_information": "all units together, at most"}),
    Measurement("prior_mismatch", _prior_match, {"prior_mismatch": "KL(q(z) || p(z)), at least"}),
    Measurement(
        "decoder_use",
        _decoder_use,
        {
            "distortion": "-log p(x|z)",
            "loss_other": "lost with another example's z",
            "loss_prior": "lost with a draw of the prior",
            "loss_mean": "lost with the mean of all z",
            "used_information": "of z by the decoder, at least",
        },
    ),
    Measurement("inference_gap", _refinement, {"inference_gap": "gained by refining q(z|x)"}),
)
"""What conditions of the core and of this distribution need."""
