"""Components by name, so that what a pipeline does not name is never imported."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ..errors import PluginError

__all__ = ["Lazy"]

_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Lazy:
    """A component that is imported when a pipeline names it.

    Args:
        kind: A key of :data:`uncollapse.config.KINDS`.
        type: The component's ``type``.
        path: Where its config class is, ``"package.module:ClassConfig"``.

    Raises:
        PluginError: ``path`` has another form.
    """

    kind: str
    type: str
    path: str

    def __post_init__(self) -> None:
        if not _PATH.fullmatch(self.path):
            raise PluginError(
                f"{self.kind} {self.type!r}: expected a path 'package.module:ClassConfig', found {self.path!r}"
            )

    def load(self) -> Any:
        """Import the config class.

        Raises:
            PluginError: It is not there, or is of another kind or type.
        """
        module, _, name = self.path.partition(":")
        try:
            config = getattr(import_module(module), name)
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"{self.kind} {self.type!r}: importing {self.path} raised {type(error).__name__}: {error}"
            ) from error
        field = getattr(config, "model_fields", {}).get("type")
        found = (getattr(config, "kind", None), getattr(field, "default", None))
        if field is not None and found != (self.kind, self.type):
            raise PluginError(
                f"{self.path}: it was announced as the {self.kind} {self.type!r}, and is the {found[0]} {found[1]!r}"
            )
        return config
