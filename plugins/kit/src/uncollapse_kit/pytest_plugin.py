"""The pytest plugin: the fixture ``assert_conforms``, wherever uncollapse is installed.

It is loaded by every pytest of the environment, so nothing heavy is imported before the fixture is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["assert_conforms"]


@pytest.fixture(scope="session", name="assert_conforms")
def assert_conforms() -> Callable[..., None]:
    """Return :func:`uncollapse_kit.assert_conforms`.

    In a plugin's test::

        def test_my_prior(assert_conforms):
            assert_conforms(MyPriorConfig(components=5))
    """
    from .conformance import assert_conforms as check

    return check
