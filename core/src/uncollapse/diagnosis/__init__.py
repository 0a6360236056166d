"""The diagnosis of any VAE: measure, conclude, prescribe."""

from ..observers import CollapseWarning, CollapseWatch
from .adapter import Adapter
from .diagnosis import Diagnosis, diagnose
from .findings import CONDITIONS, Condition, Finding, Thresholds
from .history import History, read_history
from .information import Units
from .prescribe import Prescription, Prescriptions, apply, prescribe
from .settings import Settings
from .subject import ModelSubject, Subject, batches_of

__all__ = [
    "CONDITIONS",
    "Adapter",
    "CollapseWarning",
    "CollapseWatch",
    "Condition",
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
