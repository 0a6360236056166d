"""Probes: what a simple classifier reads from the codes."""

from .base import ClassifierProbe, LabelledProbe, LabelledProbeConfig
from .draws import stratified_draw
from .kmeans import KMeansProbe, KMeansProbeConfig, cluster_labels
from .knn import KNNProbe, KNNProbeConfig
from .logistic import LogisticProbe, LogisticProbeConfig
from .svm import LinearSVMProbe, LinearSVMProbeConfig, RBFSVMProbe, RBFSVMProbeConfig

__all__ = [
    "COMPONENTS",
    "ClassifierProbe",
    "KMeansProbe",
    "KNNProbe",
    "LabelledProbe",
    "LabelledProbeConfig",
    "LinearSVMProbe",
    "LogisticProbe",
    "RBFSVMProbe",
    "cluster_labels",
    "stratified_draw",
]

COMPONENTS = (KNNProbeConfig, LogisticProbeConfig, LinearSVMProbeConfig, RBFSVMProbeConfig, KMeansProbeConfig)
"""Configs that the core registers from this folder."""
