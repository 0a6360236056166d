"""The names of zuko that the project uses, imported without their side effect on torch.

Importing zuko 1.x sets ``Distribution._validate_args = False`` and so switches off the checks of every torch
distribution in the process, the user's too. Here the user's setting is put back. Import zuko's names from this module
(or from :mod:`uncollapse_latents.flows`), never from zuko, so that whoever comes first comes through here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch.distributions import Distribution

__all__ = ["LazyComposedTransform", "LazyTransform", "MaskedLinear", "NormalizingFlow", "UnconditionalTransform"]


@contextmanager
def _validation_kept() -> Iterator[None]:
    validate: bool = Distribution._validate_args
    try:
        yield
    finally:
        Distribution.set_default_validate_args(validate)


with _validation_kept():
    from zuko.distributions import NormalizingFlow
    from zuko.lazy import LazyComposedTransform, LazyTransform, UnconditionalTransform
    from zuko.nn import MaskedLinear
