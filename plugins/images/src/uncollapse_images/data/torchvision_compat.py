"""Torchvision, imported when a source needs it, and made importable beside a CPU build of torch.

The registry's wheels of torchvision are compiled for CUDA builds of torch. Beside a CPU build its compiled library does
not load, and the import fails on fake kernels that it registers for two operators nobody declared. Data sets and
transforms need no compiled operator, so declaring the two is enough. Nothing is declared where the library loads.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import torch
from uncollapse.errors import MissingExtraError

__all__ = ["load_torchvision"]

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[torch.library.Library] = []


def load_torchvision(purpose: str) -> ModuleType:
    """Return ``torchvision.datasets``.

    Args:
        purpose: What needs it, for the message: ``data.type: mnist`` say.

    Raises:
        MissingExtraError: It is not installed.
    """
    if "torchvision" not in sys.modules and find_spec("torchvision") is None:
        raise MissingExtraError("torchvision", "uncollapse[images]", purpose)
    try:
        return import_module("torchvision.datasets")
    except RuntimeError as error:
        if "torchvision::" not in str(error) or _declared:
            raise
    for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    for schema in _SCHEMAS:
        library.define(schema)
    # The declarations live as long as the object does.
    _declared.append(library)
    return import_module("torchvision.datasets")
