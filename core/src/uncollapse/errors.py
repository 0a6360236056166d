"""Every error that a user can meet. Each says where, what was found, what is allowed and the likely fix.

The command line prints these as one message without a traceback; anything else that escapes is a bug of ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "Interrupted",
    "MissingExtraError",
    "NonFiniteLossError",
    "PluginError",
    "RunDirectoryError",
    "ShapeError",
    "UncollapseError",
    "did_you_mean",
]


class UncollapseError(Exception):
    """Base of every error that uncollapse raises on purpose."""


class ConfigError(UncollapseError, ValueError):
    """A pipeline, an override or a component's field is wrong; the message holds one line per place."""


class ShapeError(UncollapseError, ValueError):
    """Tensors, latents or event shapes do not fit together."""


class PluginError(UncollapseError):
    """A plugin is broken, incompatible or declares something invalid."""


class DataError(UncollapseError):
    """Data are missing, unreadable, or outside the support of the decoder's likelihood."""


class CheckpointError(UncollapseError):
    """A checkpoint is missing, truncated, from another pipeline, or holds something other than tensors and JSON."""


class RunDirectoryError(UncollapseError):
    """A run directory exists already, is not one, or cannot be written."""


class MissingExtraError(UncollapseError, ImportError):
    """An optional dependency is needed; the message holds the pip command that brings it."""

    def __init__(self, package: str, requirement: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed. "
            f"Install it with: pip install '{requirement}'"
        )
        self.package, self.requirement = package, requirement


class NonFiniteLossError(UncollapseError, ArithmeticError):
    """The loss became NaN or infinite; the message names the step, the term and the batch."""


class Interrupted(UncollapseError):
    """The user stopped the run; its state is saved and the message says how to resume."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``", did you mean 'x'?"`` for the nearest known name, or the empty string when none is near.

    >>> did_you_mean("gausian", ["gaussian", "flow"])
    ", did you mean 'gaussian'?"
    >>> did_you_mean("zebra", ["gaussian", "flow"])
    ''
    """
    known = list(known)
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    if not near:
        # "remedy" for "plugin.remedy": the plugin's prefix is what people forget.
        near = [k for k in known if k.rpartition(".")[2] == name.rpartition(".")[2]][:1]
    return f", did you mean {near[0]!r}?" if near else ""
