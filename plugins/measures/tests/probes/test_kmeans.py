"""K-means: the naming of clusters on a constructed case, and known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from uncollapse.errors import ConfigError
from uncollapse_measures.probes import KMeansProbe, cluster_labels

# Two clusters on a line, around 0 and around 10. In the first, the code nearest to the centre has label 1, two others
# have label 0; in the second all have label 2.
CODES = np.array([[0.0], [-1.0], [1.0], [9.0], [10.0], [11.0]])
LABELS = np.array([1, 0, 0, 2, 2, 2])
CENTROIDS = np.array([[0.0], [10.0]])


def test_nearest_code_names_the_cluster_even_against_its_majority():
    assert cluster_labels(CENTROIDS, CODES, LABELS, "nearest").tolist() == [1, 2]
    assert cluster_labels(CENTROIDS, CODES, LABELS, "majority").tolist() == [0, 2]


def test_a_cluster_without_labelled_codes_takes_the_nearest_one():
    labelled = np.array([[9.0], [11.0], [11.5]])
    for rule in ("nearest", "majority"):
        assert cluster_labels(CENTROIDS, labelled, np.array([3, 4, 4]), rule)[0] == 3


@pytest.mark.parametrize(("rule", "value"), [("nearest", 4 / 6), ("majority", 5 / 6)])
def test_scores_follow_the_rule(rule, value):
    codes, labels = torch.as_tensor(CODES), torch.as_tensor(LABELS)
    score = KMeansProbe([2], rule)(codes, labels, codes, labels)["kmeans_accuracy_k2"]
    assert score.value == pytest.approx(value)
    assert ("nearest" in score.note) == (rule == "nearest")


def _blobs(n):
    labels = torch.arange(n) % 4
    return torch.stack([labels // 2, labels % 2], 1) * 20.0 + torch.randn(n, 2), labels


def test_separated_blobs_and_too_few_clusters():
    scores = KMeansProbe([2, 4, 8])(*_blobs(200), *_blobs(80))
    assert list(scores) == ["kmeans_accuracy_k2", "kmeans_accuracy_k4", "kmeans_accuracy_k8"]
    assert scores["kmeans_accuracy_k4"].value == scores["kmeans_accuracy_k8"].value == 1.0
    assert scores["kmeans_accuracy_k2"].value == 0.5


def test_clusters_come_from_all_codes_and_only_names_from_labels():
    # Four labels name four blobs that 200 unlabelled codes have found.
    scores = KMeansProbe([4], labels=[4], draws=3)(*_blobs(200), *_blobs(80))
    assert scores["kmeans_accuracy_k4_4"].value == 1.0
    assert scores["kmeans_accuracy_k4_4"].standard_error == 0.0


def test_codes_that_are_all_alike_are_said_in_the_note():
    labels = torch.arange(30) % 3
    score = KMeansProbe([3])(torch.ones(30, 2), labels, torch.ones(30, 2), labels)["kmeans_accuracy_k3"]
    assert score.value == pytest.approx(1 / 3)
    assert "distinct clusters" in score.note


def test_more_clusters_than_codes_is_an_error():
    with pytest.raises(ConfigError, match="found 300 clusters for 200"):
        KMeansProbe([300])(*_blobs(200), *_blobs(80))


def test_repeatable():
    arguments = (torch.randn(100, 3), torch.arange(100) % 5, torch.randn(50, 3), torch.arange(50) % 5)
    assert KMeansProbe([5])(*arguments) == KMeansProbe([5])(*arguments)
