"""Clusters of codes, and whether they are classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field, PositiveInt
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances_argmin
from uncollapse.config import BuildContext
from uncollapse.errors import ConfigError

from .base import Amount, FloatArray, LabelledProbe, LabelledProbeConfig, Predict, quietly
from .draws import IntArray

__all__ = ["ClusterLabel", "KMeansProbe", "KMeansProbeConfig", "cluster_labels"]

ClusterLabel = Literal["nearest", "majority"]


def cluster_labels(
    centroids: FloatArray, codes: FloatArray, labels: IntArray, rule: ClusterLabel = "nearest"
) -> IntArray:  # fmt: skip
    """Return one label for each of the centroids ``[K, D]``, from labelled codes ``[N, D]``, ``[K]``.

    Args:
        centroids: Centres of the clusters.
        codes: Labelled codes.
        labels: Their labels ``[N]``.
        rule: ``nearest``: the label of the code nearest to the centroid, wherever that code belongs: Ma et al.
            (2019), section 4.1.2. ``majority``: the commonest label among the cluster's codes (the smallest of equally
            common ones); a cluster without labelled codes takes the nearest one's.
    """
    named: IntArray = labels[pairwise_distances_argmin(centroids, codes)]
    if rule == "majority":
        members = pairwise_distances_argmin(codes, centroids)
        for k in np.unique(members):
            named[k] = np.bincount(labels[members == k]).argmax()
    return named


class KMeansProbe(LabelledProbe):
    """K-means on the training codes; a test code gets the label of its cluster: Ma et al. (2019), section 4.1.2,
    https://arxiv.org/abs/1901.01498.

    Clusters are found without labels on all training codes; only their naming sees labels.

    Args:
        clusters: Numbers of clusters, one score for each.
        rule: How a cluster is named; see :func:`cluster_labels`.
        restarts: Starts of k-means, of which the best is kept.
        labels: Numbers of labelled training examples, or ``"all"``.
        draws: Stratified draws of the labelled examples for a number below all.
        seed: Of the draws and of k-means.
    """

    def __init__(
        self,
        clusters: Sequence[int] = (10, 20, 30),
        rule: ClusterLabel = "nearest",
        restarts: int = 5,
        labels: Sequence[Amount] = ("all",),
        draws: int = 5,
        seed: int = 0,
    ) -> None:
        super().__init__(labels, draws, seed)
        self.clusters = tuple(clusters)
        self.rule = rule
        self.restarts = restarts

    def predictors(self, train: FloatArray, targets: IntArray, test: FloatArray) -> dict[str, Predict]:
        """Return one predictor for each number of clusters.

        Raises:
            ConfigError: There are more clusters than training codes.
        """
        return {f"kmeans_accuracy_k{k}": self._predictor(k, train, targets, test) for k in self.clusters}

    def _predictor(self, k: int, train: FloatArray, targets: IntArray, test: FloatArray) -> Predict:
        if k > len(train):
            raise ConfigError(f"evaluation.probes.clusters: found {k} clusters for {len(train)} training examples")
        model = KMeans(n_clusters=k, n_init=self.restarts, random_state=self.seed)
        _, said = quietly(lambda: model.fit(train))
        assigned = pairwise_distances_argmin(test, model.cluster_centers_)

        def predict(chosen: IntArray) -> tuple[IntArray, list[str]]:
            named = cluster_labels(model.cluster_centers_, train[chosen], targets[chosen], self.rule)
            predicted: IntArray = named[assigned]
            return predicted, [f"clusters named by the {_RULES[self.rule]}", *said]

        return predict


_RULES = {"nearest": "training code nearest to the centroid", "majority": "majority of their training codes"}


class KMeansProbeConfig(LabelledProbeConfig):
    """K-means on codes, clusters named by labels: Ma et al. (2019), section 4.1.2, https://arxiv.org/abs/1901.01498."""

    type: Literal["kmeans"] = "kmeans"
    clusters: tuple[PositiveInt, ...] = Field((10, 20, 30), min_length=1, description="numbers of clusters")
    rule: ClusterLabel = Field(
        "nearest", description="a cluster's label: that of the training code nearest to its centroid, or the majority's"
    )
    restarts: PositiveInt = Field(5, description="starts of k-means, of which the best is kept")

    def build(self, context: BuildContext) -> KMeansProbe:
        """Return the probe."""
        return KMeansProbe(self.clusters, self.rule, self.restarts, self.labels, self.draws, self.seed)
