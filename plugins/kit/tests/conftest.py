"""Broken components are made and checked here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest
from uncollapse.config import ComponentConfig
from uncollapse_kit import check_component


def config_of(base: type[ComponentConfig], build: Callable[..., Any], **fields: Any) -> ComponentConfig:
    """Return a config of ``base``'s kind whose ``build(context)`` is the function given."""
    namespace = {
        "__module__": __name__,
        "__qualname__": "Broken",
        "__doc__": "Broken on purpose: nobody, https://example.org, eq. 1.",
        "__annotations__": {
            "type": Literal["broken"],
            **{k: type(v) for k, v in fields.items() if isinstance(v, int | float)},
        },
        "type": "broken",
        "build": lambda self, context: build(context),
        **fields,
    }
    broken: type[ComponentConfig] = type(base)("Broken", (base,), namespace)
    return broken()


@pytest.fixture(scope="session")
def make_config() -> Callable[..., ComponentConfig]:
    return config_of


@pytest.fixture(scope="session")
def failing() -> Callable[..., set[str]]:
    """Return the names of the checks that fail for a component made from a base config and a function that builds."""

    def names(base: type[ComponentConfig], build: Callable[..., Any], **fields: Any) -> set[str]:
        report = check_component(config_of(base, build, **fields))
        return {check.name for check in report.failures}

    return names
