"""What the distribution brings; each part is imported when a pipeline names it."""

from __future__ import annotations

from uncollapse.plugins import Lazy, Measurement, hookimpl

__all__ = ["uncollapse_components", "uncollapse_measurements"]

uncollapse_api_version = 1


@hookimpl
def uncollapse_components() -> list[Lazy]:
    """Return the parts."""
    return [
        Lazy("estimator", "kl_per_dimension", "uncollapse_measures.estimators.kl_per_dimension:KLPerDimensionConfig"),
        Lazy(
            "estimator",
            "mutual_posterior_divergence",
            "uncollapse_measures.estimators.mutual_divergence:MutualPosteriorDivergenceConfig",
        ),
        Lazy(
            "estimator",
            "reconstruction_error",
            "uncollapse_measures.estimators.reconstruction_error:ReconstructionErrorConfig",
        ),
        Lazy("probe", "knn", "uncollapse_measures.probes.knn:KNNProbeConfig"),
        Lazy("probe", "logistic", "uncollapse_measures.probes.logistic:LogisticProbeConfig"),
        Lazy("probe", "linear_svm", "uncollapse_measures.probes.svm:LinearSVMProbeConfig"),
        Lazy("probe", "rbf_svm", "uncollapse_measures.probes.svm:RBFSVMProbeConfig"),
        Lazy("probe", "kmeans", "uncollapse_measures.probes.kmeans:KMeansProbeConfig"),
    ]


@hookimpl
def uncollapse_measurements() -> tuple[Measurement, ...]:
    """Return what a diagnosis measures besides."""
    from .measurements import MEASUREMENTS

    return MEASUREMENTS
