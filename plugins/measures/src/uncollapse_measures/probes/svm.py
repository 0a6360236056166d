"""Support vector machines on codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt
from sklearn.base import ClassifierMixin
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from uncollapse.config import BuildContext

from .base import Amount, ClassifierProbe, FloatArray, LabelledProbeConfig, Predict
from .draws import IntArray, stratified_draw

__all__ = ["LinearSVMProbe", "LinearSVMProbeConfig", "RBFSVMProbe", "RBFSVMProbeConfig"]


class LinearSVMProbe(ClassifierProbe):
    """Linear SVM, one against the rest, on standardised codes, as in Ma et al. (2019), section 4.1.2,
    https://arxiv.org/abs/1901.01498, and Zhao et al., InfoVAE (2017), section 4.2.1.

    Args:
        c: Inverse strength of the L2 penalty.
        max_iter: Steps of the optimizer; stopping there is said in the score's note.
        labels: Numbers of labelled training examples, or ``"all"``.
        draws: Stratified draws of the labelled examples for a number below all.
        seed: Of the draws.
    """

    name = "linear_svm_accuracy"

    def __init__(
        self,
        c: float = 1.0,
        max_iter: int = 10_000,
        labels: Sequence[Amount] = ("all",),
        draws: int = 5,
        seed: int = 0,
    ) -> None:
        super().__init__(labels, draws, seed)
        self.c = c
        self.max_iter = max_iter

    def classifier(self, count: int) -> ClassifierMixin:
        """Return an unfitted classifier."""
        # The primal problem: codes have few dimensions, and its solver draws no random numbers.
        return make_pipeline(StandardScaler(), LinearSVC(C=self.c, max_iter=self.max_iter, dual=False))


class RBFSVMProbe(ClassifierProbe):
    """SVM with a Gaussian kernel, one against one, on standardised codes, as in Ma et al. (2019), section 4.1.2,
    https://arxiv.org/abs/1901.01498.

    Args:
        c: Inverse strength of the penalty.
        gamma: Inverse squared width of the kernel; None for one over the number of dimensions.
        max_train: Most labelled examples to fit; time grows with their square. A stratified draw beyond, said in
            the score's note.
        labels: Numbers of labelled training examples, or ``"all"``.
        draws: Stratified draws of the labelled examples for a number below all.
        seed: Of the draws.
    """

    name = "rbf_svm_accuracy"

    def __init__(
        self,
        c: float = 1.0,
        gamma: float | None = None,
        max_train: int | None = 10_000,
        labels: Sequence[Amount] = ("all",),
        draws: int = 5,
        seed: int = 0,
    ) -> None:
        super().__init__(labels, draws, seed)
        self.c = c
        self.gamma = gamma
        self.max_train = max_train

    def classifier(self, count: int) -> ClassifierMixin:
        """Return an unfitted classifier."""
        return make_pipeline(StandardScaler(), SVC(C=self.c, gamma="auto" if self.gamma is None else self.gamma))

    def predictors(self, train: FloatArray, targets: IntArray, test: FloatArray) -> dict[str, Predict]:
        """Return the predictor of the one score, fitted to at most ``max_train`` examples."""
        fit_all = super().predictors(train, targets, test)[self.name]

        def predict(chosen: IntArray) -> tuple[IntArray, list[str]]:
            if self.max_train is None or len(chosen) <= self.max_train:
                return fit_all(chosen)
            rng = np.random.default_rng([self.seed, len(chosen)])
            predicted, said = fit_all(chosen[stratified_draw(targets[chosen], self.max_train, rng)])
            return predicted, [f"fitted to {self.max_train} of {len(chosen)} labelled examples", *said]

        return {self.name: predict}


class LinearSVMProbeConfig(LabelledProbeConfig):
    """Linear SVM on standardised codes: Ma et al. (2019), section 4.1.2, https://arxiv.org/abs/1901.01498."""

    type: Literal["linear_svm"] = "linear_svm"
    c: PositiveFloat = Field(1.0, description="inverse strength of the L2 penalty")
    max_iter: PositiveInt = Field(10_000, description="steps of the optimizer")

    def build(self, context: BuildContext) -> LinearSVMProbe:
        """Return the probe."""
        return LinearSVMProbe(self.c, self.max_iter, self.labels, self.draws, self.seed)


class RBFSVMProbeConfig(LabelledProbeConfig):
    """SVM with a Gaussian kernel on standardised codes: Ma et al. (2019), section 4.1.2,
    https://arxiv.org/abs/1901.01498.
    """

    type: Literal["rbf_svm"] = "rbf_svm"
    c: PositiveFloat = Field(1.0, description="inverse strength of the penalty")
    gamma: PositiveFloat | None = Field(None, description="inverse squared kernel width; null: 1 / dimensions")
    max_train: PositiveInt | None = Field(10_000, description="most labelled examples to fit; null for all")

    def build(self, context: BuildContext) -> RBFSVMProbe:
        """Return the probe."""
        return RBFSVMProbe(self.c, self.gamma, self.max_train, self.labels, self.draws, self.seed)
