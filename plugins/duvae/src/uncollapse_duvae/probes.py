"""DU-VAE's classification protocols as probes on codes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field, PositiveInt
from torch import Tensor
from uncollapse.config import BuildContext, ProbeConfig
from uncollapse.errors import ConfigError, DataError
from uncollapse.protocols import Estimate, Scores
from uncollapse_measures.probes import LabelledProbe, LabelledProbeConfig

from .classifiers import FloatArray, IntArray, train_by_epochs, train_with_validation

__all__ = ["GroupedProbe", "GroupedProbeConfig", "LinearProbe", "LinearProbeConfig"]

_VALIDATION_SHARE = 5
"""Where nothing is left for validation, one in so many labelled examples serves it."""


class LinearProbe(LabelledProbe):
    """One linear layer on codes, trained by SGD and chosen by validation: Shen et al., DU-VAE (2021), section 4.2 and
    table 2, https://arxiv.org/abs/2110.12381, with what the released script for text does; see
    :func:`uncollapse_duvae.classifiers.train_with_validation`.

    Training examples that are not among the labelled ones choose the weights, as a validation set of their own does in
    the released code; where there are none left, a fifth of the labelled ones.

    Args:
        labels: Numbers of labelled training examples, or ``"all"``.
        draws: Stratified draws of the labelled examples for a number below all.
        seed: Of draws and order.
        validation: Most examples that choose the weights.
        epochs: Most epochs.
    """

    def __init__(
        self,
        labels: Sequence[int | Literal["all"]] = (100, 500, 1000, 2000, 10_000),
        draws: int = 5,
        seed: int = 0,
        validation: int = 10_000,
        epochs: int = 100,
    ) -> None:
        super().__init__(labels, draws, seed)
        self.validation, self.epochs = validation, epochs

    def predictors(self, train: FloatArray, targets: IntArray, test: FloatArray) -> dict[str, Callable[..., Any]]:
        """Return the predictor of the one score, ``duvae_linear_accuracy``."""
        classes, index = np.unique(targets, return_inverse=True)

        def predict(chosen: IntArray) -> tuple[IntArray, list[str]]:
            rng = np.random.default_rng([self.seed, len(chosen)])
            rest = rng.permutation(np.setdiff1d(np.arange(len(train)), chosen))[: self.validation]
            if not len(rest):
                shuffled = rng.permutation(chosen)
                cut = max(1, len(chosen) // _VALIDATION_SHARE)
                rest, chosen = shuffled[:cut], shuffled[cut:]
            classifier = train_with_validation(
                train[chosen], index[chosen], (train[rest], index[rest]), len(classes), seed=self.seed,
                epochs=self.epochs,
            )  # fmt: skip
            return classes[classifier.predict(test)], [f"{len(rest)} further labels choose the weights"]

        return {"duvae_linear_accuracy": predict}


class GroupedProbe:
    """One linear layer for each group of classes, and the mean of their accuracies: Shen et al., DU-VAE (2021), section
    4.2 and table 3, https://arxiv.org/abs/2110.12381, where the groups are the alphabets of OMNIGLOT.

    A group holds the classes whose names agree before the first ``/``. Each classifier sees and is scored on the
    examples of its group alone; it is trained as the released script does, see
    :func:`uncollapse_duvae.classifiers.train_by_epochs`. Classes without test examples are learned all the same.

    Args:
        label_names: Name of every class; where they show no groups, one classifier has all classes.
        per_class: Numbers of training examples of every class, one score for each; all that there are of a class with
            fewer.
        epochs: Epochs of each classifier.
        seed: Of the choice of examples and their order.
    """

    def __init__(
        self,
        label_names: Sequence[str] = (),
        per_class: Sequence[int] = (5, 10, 15),
        epochs: int = 300,
        seed: int = 0,
    ) -> None:
        self.label_names, self.per_class = tuple(label_names), tuple(per_class)
        self.epochs, self.seed = epochs, seed

    def __call__(self, train_codes: Tensor, train_labels: Tensor, test_codes: Tensor, test_labels: Tensor) -> Scores:
        """Return ``grouped_accuracy_<n>`` for every number ``n`` of examples a class.

        Raises:
            ConfigError: No group has test examples.
            DataError: Codes are not finite.
        """
        train, test = (codes.detach().cpu().flatten(1).double().numpy() for codes in (train_codes, test_codes))
        if not (np.isfinite(train).all() and np.isfinite(test).all()):
            raise DataError("probe: the codes hold NaN or infinite values; the encoder has diverged")
        targets, truth = (labels.detach().cpu().numpy() for labels in (train_labels, test_labels))
        groups = self._groups(int(max(targets.max(), truth.max())) + 1)
        found: dict[str, Estimate] = {}
        for amount in self.per_class:
            scores = [
                self._score(train, targets, test, truth, members, amount)
                for members in groups
                if np.isin(truth, members).any() and np.isin(targets, members).any()
            ]
            if not scores:
                raise ConfigError(
                    "evaluation.probes (duvae.grouped): no group of classes has both training and test examples; "
                    "measure on more examples"
                )
            error = float(np.std(scores, ddof=1)) / math.sqrt(len(scores)) if len(scores) > 1 else None
            note = f"mean over {len(scores)} groups, {amount} training examples of every class"
            found[f"grouped_accuracy_{amount}"] = Estimate(
                float(np.mean(scores)), "accuracy", error, len(scores), None, note
            )
        return found

    def _groups(self, classes: int) -> list[IntArray]:
        names = [name.partition("/")[0] for name in self.label_names]
        if len(names) < classes or not any("/" in name for name in self.label_names):
            return [np.arange(classes)]
        return [np.flatnonzero(np.asarray(names) == group) for group in dict.fromkeys(names)]

    def _score(
        self, train: FloatArray, targets: IntArray, test: FloatArray, truth: IntArray, members: IntArray, amount: int
    ) -> float:  # fmt: skip
        rng = np.random.default_rng([self.seed, amount, int(members[0])])
        chosen = np.concatenate([rng.permutation(np.flatnonzero(targets == c))[:amount] for c in members])
        scored = np.flatnonzero(np.isin(truth, members))
        own = np.searchsorted(members, targets[chosen])
        classifier = train_by_epochs(train[chosen], own, len(members), seed=self.seed, epochs=self.epochs)
        return float((members[classifier.predict(test[scored])] == truth[scored]).mean())


class LinearProbeConfig(LabelledProbeConfig):
    """A linear layer trained by SGD: Shen et al., DU-VAE (2021), section 4.2, table 2,
    https://arxiv.org/abs/2110.12381, and its released script for text.
    """

    type: Literal["duvae.linear"] = "duvae.linear"
    validation: PositiveInt = Field(
        10_000, description="most training examples, not labelled ones, that choose weights"
    )
    epochs: PositiveInt = Field(100, description="most epochs")

    def build(self, context: BuildContext) -> LinearProbe:
        """Return the probe."""
        return LinearProbe(self.labels, self.draws, self.seed, self.validation, self.epochs)


class GroupedProbeConfig(ProbeConfig):
    """A linear layer for each alphabet: Shen et al., DU-VAE (2021), section 4.2, table 3,
    https://arxiv.org/abs/2110.12381, and its released script for OMNIGLOT.
    """

    type: Literal["duvae.grouped"] = "duvae.grouped"
    per_class: tuple[PositiveInt, ...] = Field(
        (5, 10, 15), min_length=1, description="numbers of training examples of every class, one score for each"
    )
    epochs: PositiveInt = Field(300, description="epochs of each classifier")
    seed: int = Field(0, ge=0, lt=2**31, description="of the choice of examples; the same in runs that are compared")

    def build(self, context: BuildContext) -> GroupedProbe:
        """Return the probe; the data's label names say which classes belong together."""
        return GroupedProbe(context.label_names, self.per_class, self.epochs, self.seed)
