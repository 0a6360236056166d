"""The diagnosis of any VAE: measure, conclude, prescribe.

Names are loaded when first used, so that the command line answers ``--help`` without importing torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uncollapse.lazy import lazily

if TYPE_CHECKING:
    from .adapter import Adapter
    from .diagnosis import Diagnosis, diagnose
    from .findings import Finding, Thresholds
    from .history import History, read_history
    from .information import Units
    from .observers.watch import CollapseWarning, CollapseWatch
    from .prescriptions import Prescription, Prescriptions, apply, prescribe
    from .settings import Settings
    from .subject import ModelSubject, Subject, batches_of

_HOME = {
    "Adapter": "adapter",
    "CollapseWarning": "observers.watch",
    "CollapseWatch": "observers.watch",
    "Diagnosis": "diagnosis",
    "Finding": "findings",
    "History": "history",
    "ModelSubject": "subject",
    "Prescription": "prescriptions",
    "Prescriptions": "prescriptions",
    "Settings": "settings",
    "Subject": "subject",
    "Thresholds": "findings",
    "Units": "information",
    "apply": "prescriptions",
    "batches_of": "subject",
    "diagnose": "diagnosis",
    "prescribe": "prescriptions",
    "read_history": "history",
}

__all__ = [
    "Adapter",
    "CollapseWarning",
    "CollapseWatch",
    "Diagnosis",
    "Finding",
    "History",
    "ModelSubject",
    "Prescription",
    "Prescriptions",
    "Settings",
    "Subject",
    "Thresholds",
    "Units",
    "apply",
    "batches_of",
    "diagnose",
    "prescribe",
    "read_history",
]

__getattr__ = lazily(__name__, _HOME)
