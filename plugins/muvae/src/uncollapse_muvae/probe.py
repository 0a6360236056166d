"""The same classifier, trained once the model is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt
from uncollapse.config import BuildContext
from uncollapse_measures.probes import LabelledProbe, LabelledProbeConfig

from .classifier import OnlineClassifier

__all__ = ["MLPProbe", "MLPProbeConfig"]

_ROWS_AT_ONCE = 4096


class MLPProbe(LabelledProbe):
    """Accuracy of the classifier of *Bridging the ELBO and MMD* (2019), table 4, on the codes of a trained model.

    The paper trains it beside the model, as the observer ``muvae.classifier`` does; here the codes no longer move, so
    that models are compared and not histories. Codes are not standardised.

    Args:
        hidden: Widths of the layers.
        lr: Rate of its Adam.
        batch_size: Codes of one step; a draw of fewer makes one step an epoch.
        epochs: Passes over the codes; the paper gives no number.
        labels: Numbers of labelled training examples, or ``"all"``.
        draws: Stratified draws of the labelled examples for a number below all.
        seed: Of the draws, the weights and the order of codes.
    """

    def __init__(
        self,
        hidden: Sequence[int] = (1024, 1024, 1024),
        lr: float = 1e-4,
        batch_size: int = 64,
        epochs: int = 10,
        labels: Sequence[int | Literal["all"]] = ("all",),
        draws: int = 5,
        seed: int = 0,
    ) -> None:
        super().__init__(labels, draws, seed)
        self.hidden, self.lr, self.batch_size, self.epochs = tuple(hidden), lr, batch_size, epochs

    def predictors(self, train: NDArray[Any], targets: NDArray[Any], test: NDArray[Any]) -> dict[str, Any]:
        """Return the predictor of ``mlp_accuracy``."""
        classes, numbers = np.unique(targets, return_inverse=True)
        codes, labels = torch.from_numpy(train).float(), torch.from_numpy(numbers)
        asked = torch.from_numpy(test).float()

        def predict(chosen: NDArray[Any]) -> tuple[NDArray[Any], list[str]]:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                classifier = OnlineClassifier(codes.shape[1], len(classes), self.hidden, self.lr)
                for _ in range(self.epochs):
                    for some in torch.from_numpy(chosen)[torch.randperm(len(chosen))].split(self.batch_size):
                        classifier.learn(codes[some], labels[some])
            predicted = torch.cat([classifier.predict(rows) for rows in asked.split(_ROWS_AT_ONCE)])
            return classes[predicted.numpy()], [f"{self.epochs} epochs"]

        return {"mlp_accuracy": predict}


class MLPProbeConfig(LabelledProbeConfig):
    """Accuracy of a fully connected classifier on codes: *Bridging the ELBO and MMD* (2019), section 5 and table 4."""

    type: Literal["muvae.mlp"] = "muvae.mlp"
    hidden: tuple[PositiveInt, ...] = Field((1024, 1024, 1024), description="widths of the layers", examples=[(16,)])
    lr: PositiveFloat = Field(1e-4, description="rate of its Adam", examples=[3e-3])
    batch_size: PositiveInt = Field(64, description="codes of one step")
    epochs: PositiveInt = Field(10, description="passes over the codes; the paper gives no number")

    def build(self, context: BuildContext) -> MLPProbe:
        """Return the probe."""
        return MLPProbe(self.hidden, self.lr, self.batch_size, self.epochs, self.labels, self.draws, self.seed)
