"""uncollapse: see, measure and cure posterior collapse in variational autoencoders.

Names are loaded when first used, so that the command line answers ``--help`` without importing torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import lazily
from .version import __version__ as __version__

if TYPE_CHECKING:
    from .distributions import DiagonalNormal, kl_per_dimension, rsample_and_log_prob
    from .errors import UncollapseError
    from .inference import Inference
    from .model import LatentVariableModel
    from .pipeline import Pipeline
    from .protocols import Batch, DataSpec, Estimate, Loss, Penalty, Progress


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

__getattr__ = lazily(__name__, _HOME)
