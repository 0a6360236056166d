"""The diagnosis of any VAE: measure, conclude, prescribe.

Names are loaded when first used, so that the command line answers ``--help`` without importing torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uncollapse.lazy import lazily

if TYPE_CHECKING:
    from .adapter import Adapter
    from .codes import Codes
    from .diagnosis import Diagnosis, diagnose
    from .history import History, read_history
    from .information import Units
    from .observers.watch import CollapseWarning, CollapseWatch
    from .prescriptions import Prescription, Prescriptions, apply, prescribe
    from .runs import diagnose_run
    from .settings import Settings
    from .subject import ModelSubject, Subject, batches_of

_HOME = {
    "Adapter": "adapter",
    "CollapseWarning": "observers.watch",
    "CollapseWatch": "observers.watch",
    "Codes": "codes",
    "Diagnosis": "diagnosis",
    "History": "history",
    "ModelSubject": "subject",
    "Prescription": "prescriptions",
    "Prescriptions": "prescriptions",
    "Settings": "settings",
    "Subject": "subject",
    "Units": "information",
    "apply": "prescriptions",
    "batches_of": "subject",
    "diagnose": "diagnosis",
    "diagnose_run": "runs",
    "prescribe": "prescriptions",
    "read_history": "history",
}

__all__ = [
    "Adapter",
    "Codes",
    "CollapseWarning",
    "CollapseWatch",
    "Diagnosis",
    "History",
    "ModelSubject",
    "Prescription",
    "Prescriptions",
    "Settings",
    "Subject",
    "Units",
    "apply",
    "batches_of",
    "diagnose",
    "diagnose_run",
    "prescribe",
    "read_history",
]

__getattr__ = lazily(__name__, _HOME)
