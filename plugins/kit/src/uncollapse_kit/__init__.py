"""The conformance kit: is this component what its protocol promises?

>>> from uncollapse_kit import check_component
>>> from uncollapse.schedules.schedules import ConstantScheduleConfig
>>> check_component(ConstantScheduleConfig(value=0.5)).passed
True

``assert_conforms(config)`` does the same inside a test and lists what failed. With pytest the fixture
``assert_conforms`` is there as soon as uncollapse is installed. Names are loaded when first used, because pytest
imports this package in every project that shares the environment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uncollapse.lazy import lazily

if TYPE_CHECKING:
    from .composition import Composition, Parts, compose
    from .conformance import assert_conforms, check_component, example_of
    from .contexts import Setting
    from .reference import reference_inference, reference_model
    from .report import Check, Conformance

_HOME = {
    "Check": "report",
    "Composition": "composition",
    "Conformance": "report",
    "Parts": "composition",
    "Setting": "contexts",
    "assert_conforms": "conformance",
    "check_component": "conformance",
    "compose": "composition",
    "example_of": "conformance",
    "reference_inference": "reference",
    "reference_model": "reference",
}

__all__ = [
    "Check",
    "Composition",
    "Conformance",
    "Parts",
    "Setting",
    "assert_conforms",
    "check_component",
    "compose",
    "example_of",
    "reference_inference",
    "reference_model",
]

__getattr__ = lazily(__name__, _HOME)
