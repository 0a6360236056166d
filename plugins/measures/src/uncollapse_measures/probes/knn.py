"""k nearest neighbours on codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, PositiveInt
from sklearn.base import ClassifierMixin
from sklearn.neighbors import KNeighborsClassifier
from uncollapse.config import BuildContext

from .base import Amount, ClassifierProbe, LabelledProbeConfig

__all__ = ["KNNProbe", "KNNProbeConfig"]


class KNNProbe(ClassifierProbe):
    """Majority of the nearest training codes, Euclidean, as in Ma et al. (2019), section 4.1.2,
    https://arxiv.org/abs/1901.01498.

    Codes are compared as they are: rescaling every dimension to unit variance would give the noise of unused
    dimensions the weight of the used ones.

    Args:
        neighbors: Neighbours that vote; all labelled examples where there are fewer.
        labels: Numbers of labelled training examples, or ``"all"``.
        draws: Stratified draws of the labelled examples for a number below all.
        seed: Of the draws.
    """

    name = "knn_accuracy"

    def __init__(
        self, neighbors: int = 10, labels: Sequence[Amount] = ("all",), draws: int = 5, seed: int = 0
    ) -> None:  # fmt: skip
        super().__init__(labels, draws, seed)
        self.neighbors = neighbors

    def classifier(self, count: int) -> ClassifierMixin:
        """Return an unfitted classifier for ``count`` labelled examples."""
        return KNeighborsClassifier(n_neighbors=min(self.neighbors, count))

    def note(self, count: int) -> str:
        """Return the number of neighbours."""
        return f"{min(self.neighbors, count)} neighbours"


class KNNProbeConfig(LabelledProbeConfig):
    """k nearest neighbours on codes: Ma et al. (2019), section 4.1.2, https://arxiv.org/abs/1901.01498."""

    type: Literal["knn"] = "knn"
    neighbors: PositiveInt = Field(10, description="neighbours that vote")

    def build(self, context: BuildContext) -> KNNProbe:
        """Return the probe."""
        return KNNProbe(self.neighbors, self.labels, self.draws, self.seed)
