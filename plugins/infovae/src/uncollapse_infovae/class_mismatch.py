"""Whether generated data fall into classes as the real ones do."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveInt
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from torch import Tensor
from uncollapse.config import BuildContext, EstimatorConfig, Installed, SamplerConfig
from uncollapse.errors import ConfigError
from uncollapse.model import LatentVariableModel
from uncollapse.protocols import Batch, Estimate, Estimates, Sampler

from .functional import class_mismatch

__all__ = ["ClassMismatch", "ClassMismatchConfig"]

_PLACE = "infovae.class_mismatch"


class ClassMismatch:
    """``KL(c || c_hat)`` of the classes of real and of generated data, in nats: Zhao et al., InfoVAE (2017), section
    4.2.1, item 2, https://arxiv.org/abs/1706.02262v1. Classes that the model misses or favours raise it.

    ``c`` are the shares of the training labels, ``c_hat`` those of the labels that a classifier, trained on the
    training data, gives to samples of the model. The paper says no more of its classifier; here it is scikit-learn's
    ``MLPClassifier`` on flattened data. The note holds its accuracy on the evaluated set, and what it makes of real
    data, ``KL(c || c_hat)`` of that set: no model can be expected to be much below.

    Args:
        sampler: Draws from the model.
        samples: How many.
        hidden: Widths of the classifier's layers.
        epochs: Passes over the training data.
        smoothing: Added to the count of every class in ``c_hat``; with 0 a class that is never generated makes the
            number infinite.
        max_train: Most training examples; None for all.
        seed: Of the classifier.
    """

    def __init__(
        self,
        sampler: Sampler,
        samples: int = 10_000,
        hidden: Sequence[int] = (256,),
        epochs: int = 15,
        smoothing: float = 0.5,
        max_train: int | None = None,
        seed: int = 0,
    ) -> None:
        self.sampler, self.samples, self.smoothing, self.max_train = sampler, samples, smoothing, max_train
        self.classifier = MLPClassifier(tuple(hidden), max_iter=epochs, random_state=seed)
        self.true: Tensor | None = None

    def prepare(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Train the classifier, and count classes.

        Raises:
            ConfigError: The data have no labels, or one class only.
        """
        x, labels = _flat(batches(), self.max_train)
        classes, counts = np.unique(labels, return_counts=True)
        if len(classes) < 2:
            raise ConfigError(f"{_PLACE}: a classifier needs two classes or more, found {len(classes)}; leave it out")
        with warnings.catch_warnings():
            # The number of epochs is what was asked for, not a failure to converge.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.classifier.fit(x, labels)
        self.true = torch.from_numpy(counts / counts.sum())

    def __call__(self, model: LatentVariableModel, batches: Callable[[], Iterable[Batch]]) -> Estimates:
        """Return ``class_mismatch`` in nats.

        Raises:
            ConfigError: :meth:`prepare` has not been called, or the evaluated data have no labels.
        """
        if self.true is None:
            raise ConfigError(
                f"{_PLACE}: its classifier has not been trained; call prepare(batches) with the training data first, "
                "as evaluation does"
            )
        x, labels = _flat(batches(), None)
        real = self.classifier.predict(x)
        generated = self.classifier.predict(self.sampler(model, self.samples).cpu().flatten(1).numpy())
        shares = self._shares(generated)
        value = class_mismatch(self.true, shares).item()
        accuracy, floor = float((real == labels).mean()), class_mismatch(self.true, self._shares(real)).item()
        return {
            "class_mismatch": Estimate(
                value,
                "nats",
                _standard_error(self.true, shares, self.samples) if math.isfinite(value) else None,
                self.samples,
                note=f"classifier with accuracy {accuracy:.4f} on {len(labels)} real examples, whose own mismatch is "
                f"{floor:.4f} nats",
            )
        }

    def _shares(self, predicted: NDArray[Any]) -> Tensor:
        counts = np.array([(predicted == c).sum() for c in self.classifier.classes_]) + self.smoothing
        return torch.from_numpy(counts / counts.sum())


def _standard_error(true: Tensor, generated: Tensor, samples: int) -> float:
    """Return the deviation of the mismatch over draws of ``samples`` labels from ``generated``.

    First and second order in the multinomial's noise; where both agree, the first vanishes and twice the number of
    samples times the mismatch is chi-squared.
    """
    first = (true.square() / generated).sum().item() - 1
    second = (len(true) - 1) / (2 * samples)
    return math.sqrt(max(0.0, first + second) / samples)


def _flat(batches: Iterable[Batch], limit: int | None) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return flattened data ``[N, X]`` and labels ``[N]`` of at most ``limit`` examples."""
    x: list[Tensor] = []
    labels: list[Tensor] = []
    left = math.inf if limit is None else limit
    for batch in batches:
        if batch.labels is None:
            raise ConfigError(f"{_PLACE}: the data have no labels; leave this estimator out")
        x.append(batch.x.cpu().flatten(1).float())
        labels.append(batch.labels.cpu())
        left -= len(batch)
        if left <= 0:
            break
    return torch.cat(x)[:limit].numpy(), torch.cat(labels)[:limit].numpy()


class ClassMismatchConfig(EstimatorConfig):
    """Classes of generated against real data: Zhao et al. (2017), section 4.2.1,
    https://arxiv.org/abs/1706.02262v1.
    """

    type: Literal["infovae.class_mismatch"] = "infovae.class_mismatch"
    sampler: Annotated[SamplerConfig, Installed("sampler")] = Field(
        default="ancestral", validate_default=True, description="how samples are drawn from the model"
    )
    samples: PositiveInt = Field(10_000, description="samples of the model")
    hidden: tuple[PositiveInt, ...] = Field((256,), min_length=1, description="widths of the classifier's layers")
    epochs: PositiveInt = Field(15, description="passes of the classifier over the training data")
    smoothing: NonNegativeFloat = Field(
        0.5, description="added to every class's count of samples; 0: a class never generated makes it infinite"
    )
    max_train: PositiveInt | None = Field(None, description="most training examples of the classifier; null for all")
    seed: int = Field(0, ge=0, description="of the classifier")

    def build(self, context: BuildContext) -> ClassMismatch:
        """Return the estimator.

        Raises:
            ConfigError: The data have no labels, or are tokens.
        """
        if context.data.classes is None or context.data.support == "tokens":
            found = "have no labels" if context.data.classes is None else "are tokens"
            raise ConfigError(f"evaluation.estimators ({_PLACE}): it needs labelled numbers, but the data {found}")
        return ClassMismatch(
            self.sampler.build(context),
            self.samples,
            self.hidden,
            self.epochs,
            self.smoothing,
            self.max_train,
            self.seed,
        )
