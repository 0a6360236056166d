"""Multinomial logistic regression on codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt
from sklearn.base import ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from uncollapse.config import BuildContext

from .base import Amount, ClassifierProbe, LabelledProbeConfig

__all__ = ["LogisticProbe", "LogisticProbeConfig"]


class LogisticProbe(ClassifierProbe):
    """Logistic regression on standardised codes, as in Ma et al. (2019), section 4.1.2,
    https://arxiv.org/abs/1901.01498, and Shen et al., DU-VAE (2021), section 4.2 (a linear layer).

    Args:
        c: Inverse strength of the L2 penalty.
        max_iter: Steps of L-BFGS; stopping there is said in the score's note.
        labels: Numbers of labelled training examples, or ``"all"``.
        draws: Stratified draws of the labelled examples for a number below all.
        seed: Of the draws.
    """

    name = "logistic_accuracy"

    def __init__(
        self,
        c: float = 1.0,
        max_iter: int = 2000,
        labels: Sequence[Amount] = ("all",),
        draws: int = 5,
        seed: int = 0,
    ) -> None:
        super().__init__(labels, draws, seed)
        self.c = c
        self.max_iter = max_iter

    def classifier(self, count: int) -> ClassifierMixin:
        """Return an unfitted classifier."""
        return make_pipeline(StandardScaler(), LogisticRegression(C=self.c, max_iter=self.max_iter))


class LogisticProbeConfig(LabelledProbeConfig):
    """Logistic regression on standardised codes: Ma et al. (2019), section 4.1.2, https://arxiv.org/abs/1901.01498."""

    type: Literal["logistic"] = "logistic"
    c: PositiveFloat = Field(1.0, description="inverse strength of the L2 penalty")
    max_iter: PositiveInt = Field(2000, description="steps of the optimizer")

    def build(self, context: BuildContext) -> LogisticProbe:
        """Return the probe."""
        return LogisticProbe(self.c, self.max_iter, self.labels, self.draws, self.seed)
