"""uncollapse: see, measure and cure posterior collapse in variational autoencoders.

Names are loaded when first used, so that the command line answers ``--help`` without importing torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .distributions import DiagonalNormal, kl_per_dimension, rsample_and_log_prob
    from .errors import UncollapseError
    from .inference import Inference
    from .model import LatentVariableModel
    from .pipeline import Pipeline
    from .protocols import Batch, DataSpec, Estimate, Loss, Penalty, Progress

__version__ = "0.1.0"

_HOME = {
    "Batch": "protocols",
    "DataSpec": "protocols",
    "DiagonalNormal": "distributions",
    "Estimate": "protocols",
    "Inference": "inference",
    "LatentVariableModel": "model",
    "Loss": "protocols",
    "Penalty": "protocols",
    "Pipeline": "pipeline",
    "Progress": "protocols",
    "UncollapseError": "errors",
    "kl_per_dimension": "distributions",
    "rsample_and_log_prob": "distributions",
}

__all__ = [
    "Batch",
    "DataSpec",
    "DiagonalNormal",
    "Estimate",
    "Inference",
    "LatentVariableModel",
    "Loss",
    "Penalty",
    "Pipeline",
    "Progress",
    "UncollapseError",
    "kl_per_dimension",
    "rsample_and_log_prob",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
