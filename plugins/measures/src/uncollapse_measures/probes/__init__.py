"""Probes: what a simple classifier reads from the codes."""

from .base import ClassifierProbe, LabelledProbe, LabelledProbeConfig
from .draws import stratified_draw
from .kmeans import KMeansProbe, KMeansProbeConfig, cluster_labels
from .knn import KNNProbe, KNNProbeConfig
from .logistic import LogisticProbe, LogisticProbeConfig
from .svm import LinearSVMProbe, LinearSVMProbeConfig, RBFSVMProbe, RBFSVMProbeConfig

__all__ = [
    "ClassifierProbe",
    "KMeansProbe",
    "KMeansProbeConfig",
    "KNNProbe",
    "KNNProbeConfig",
    "LabelledProbe",
    "LabelledProbeConfig",
    "LinearSVMProbe",
    "LinearSVMProbeConfig",
    "LogisticProbe",
    "LogisticProbeConfig",
    "RBFSVMProbe",
    "RBFSVMProbeConfig",
    "cluster_labels",
    "stratified_draw",
]
