"""What every probe on labels does the same way: draws of labelled examples, accuracies and their errors."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, PositiveInt
from sklearn.base import ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor
from uncollapse.config import ProbeConfig
from uncollapse.errors import ConfigError, DataError
from uncollapse.protocols import Estimate, Scores

from .draws import IntArray, stratified_draw

__all__ = ["Amount", "ClassifierProbe", "FloatArray", "LabelledProbe", "LabelledProbeConfig"]

FloatArray = npt.NDArray[np.float64]

Amount = int | Literal["all"]
"""A number of labelled training examples."""

Predict = Callable[[IntArray], tuple[IntArray, list[str]]]
"""From indices of labelled training examples to predicted test labels, and what has to be said about them."""


class LabelledProbeConfig(ProbeConfig):
    """Fields that every probe on labels has: how many of them it may see, and how often that is repeated."""

    labels: tuple[Annotated[int, Field(ge=2)] | Literal["all"], ...] = Field(
        ("all",), min_length=1, description="numbers of labelled training examples, or 'all'; one score for each"
    )
    draws: PositiveInt = Field(5, description="stratified draws of the labelled examples, for numbers below all")
    seed: int = Field(0, ge=0, lt=2**31, description="of the draws; leave it the same in runs that are compared")


class LabelledProbe(ABC):
    """Test accuracies in 0..1 of a classifier on codes, one for each number of labels.

    The standard error is binomial over test examples where all labels are used, and over draws of the labelled
    examples for numbers below all.

    Args:
        labels: Numbers of labelled training examples, or ``"all"``.
        draws: Stratified draws of the labelled examples for a number below all.
        seed: Of the draws.
    """

    def __init__(self, labels: Sequence[Amount] = ("all",), draws: int = 5, seed: int = 0) -> None:
        self.labels = tuple(labels)
        self.draws = draws
        self.seed = seed

    @abstractmethod
    def predictors(self, train: FloatArray, targets: IntArray, test: FloatArray) -> dict[str, Predict]:
        """Return, by the name of its score, what predicts the test labels from some labelled training examples."""

    def __call__(
        self, train_codes: Tensor, train_labels: Tensor, test_codes: Tensor, test_labels: Tensor
    ) -> Scores:  # fmt: skip
        """Return accuracies for codes ``[N, *D]`` and labels ``[N]``; a number of labels is appended to the name.

        Raises:
            ConfigError: A number of labels is impossible, or there is only one class.
            DataError: Codes are not finite or do not match their labels.
        """
        train, targets = _arrays(train_codes, train_labels, "training")
        test, truth = _arrays(test_codes, test_labels, "test")
        if len(np.unique(targets)) < 2:
            raise ConfigError("evaluation.probes: a probe needs at least 2 classes, the training labels have only 1")
        found: dict[str, Estimate] = {}
        for name, predict in self.predictors(train, targets, test).items():
            for amount in self.labels:
                if amount == "all":
                    found[name] = self._with_all(predict, len(targets), truth)
                else:
                    found[f"{name}_{amount}"] = self._with_some(predict, amount, targets, truth)
        return found

    def _with_all(self, predict: Predict, count: int, truth: IntArray) -> Estimate:
        predicted, notes = predict(np.arange(count))
        value = float((predicted == truth).mean())
        error = math.sqrt(value * (1 - value) / len(truth))
        return Estimate(value, "accuracy", error, len(truth), None, "; ".join(notes))

    def _with_some(self, predict: Predict, amount: int, targets: IntArray, truth: IntArray) -> Estimate:
        notes = [f"{self.draws} draws of {amount} labels", f"{len(truth)} test examples"]
        scores: list[float] = []
        for draw in range(self.draws):
            rng = np.random.default_rng([self.seed, amount, draw])
            predicted, said = predict(stratified_draw(targets, amount, rng))
            scores.append(float((predicted == truth).mean()))
            notes += [n for n in said if n not in notes]
        error = float(np.std(scores, ddof=1)) / math.sqrt(self.draws) if self.draws > 1 else None
        return Estimate(float(np.mean(scores)), "accuracy", error, self.draws, None, "; ".join(notes))


class ClassifierProbe(LabelledProbe):
    """A scikit-learn classifier fitted to the labelled codes; ``name`` is that of its score."""

    name: str

    @abstractmethod
    def classifier(self, count: int) -> ClassifierMixin:
        """Return an unfitted classifier for ``count`` labelled examples."""

    def note(self, count: int) -> str:
        """Return what has to be said of a classifier fitted to ``count`` examples; nothing by default."""
        return ""

    def predictors(self, train: FloatArray, targets: IntArray, test: FloatArray) -> dict[str, Predict]:
        """Return the predictor of the one score."""

        def predict(chosen: IntArray) -> tuple[IntArray, list[str]]:
            model: Any = self.classifier(len(chosen))
            predicted, said = quietly(lambda: model.fit(train[chosen], targets[chosen]).predict(test))
            note = self.note(len(chosen))
            return predicted, [note, *said] if note else said

        return {self.name: predict}


def quietly(call: Callable[[], Any]) -> tuple[Any, list[str]]:
    """Return what ``call`` returns, and scikit-learn's convergence warnings as sentences; other warnings pass."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        result = call()
    said: list[str] = []
    for warning in caught:
        if issubclass(warning.category, ConvergenceWarning):
            said.append("not converged: " + " ".join(str(warning.message).split()))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return result, said


def _arrays(codes: Tensor, labels: Tensor, which: str) -> tuple[FloatArray, IntArray]:
    if len(codes) != len(labels) or len(codes) == 0:
        raise DataError(f"probe: expected as many {which} codes as labels, found {len(codes)} and {len(labels)}")
    array: FloatArray = codes.detach().cpu().flatten(1).numpy().astype(np.float64)
    if not np.isfinite(array).all():
        raise DataError(f"probe: the {which} codes hold NaN or infinite values; the encoder has diverged")
    return array, labels.detach().cpu().numpy().astype(np.int64)
