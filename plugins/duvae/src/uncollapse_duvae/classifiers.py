"""One linear layer, trained as DU-VAE's scripts train it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["FloatArray", "IntArray", "LinearClassifier", "train_by_epochs", "train_with_validation"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LinearClassifier:
    """Class scores ``x weight^T + bias``.

    Args:
        weight: ``[C, D]``.
        bias: ``[C]``.
    """

    weight: FloatArray
    bias: FloatArray

    @classmethod
    def zero(cls, inputs: int, classes: int) -> LinearClassifier:
        """Return one that knows nothing; the loss is convex."""
        return cls(np.zeros((classes, inputs)), np.zeros(classes))

    def predict(self, codes: FloatArray) -> IntArray:
        """Return the class of every code, ``[N]``."""
        predicted: IntArray = (codes @ self.weight.T + self.bias).argmax(1)
        return predicted

    def log_probabilities(self, codes: FloatArray) -> FloatArray:
        """Return ``[N, C]``, nats."""
        scores = codes @ self.weight.T + self.bias
        scores -= scores.max(1, keepdims=True)
        result: FloatArray = scores - np.log(np.exp(scores).sum(1, keepdims=True))
        return result

    def loss(self, codes: FloatArray, labels: IntArray) -> float:
        """Return the mean cross entropy, nats."""
        return -float(self.log_probabilities(codes)[np.arange(len(labels)), labels].mean())

    def gradient(self, codes: FloatArray, labels: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return the gradient of :meth:`loss` by weight and bias."""
        error = np.exp(self.log_probabilities(codes))
        error[np.arange(len(labels)), labels] -= 1
        error /= len(labels)
        return error.T @ codes, error.sum(0)

    def stepped(self, codes: FloatArray, labels: IntArray, lr: float, clip: float) -> LinearClassifier:
        """Return what a step of gradient descent makes of it, the gradient's norm clipped."""
        weight, bias = self.gradient(codes, labels)
        norm = float(np.sqrt((weight * weight).sum() + (bias * bias).sum()))
        step = lr * min(1.0, clip / max(norm, 1e-12))
        return LinearClassifier(self.weight - step * weight, self.bias - step * bias)


def train_with_validation(
    codes: FloatArray,
    labels: IntArray,
    validation: tuple[FloatArray, IntArray],
    classes: int,
    *,
    seed: int,
    lr: float = 1.0,
    batch_size: int = 16,
    epochs: int = 100,
    patience: int = 2,
    max_decays: int = 5,
    clip: float = 5.0,
) -> LinearClassifier:
    """Return a linear classifier trained by SGD, its rate halved when validation gets worse, and its best weights.

    The released ``text_ss.py`` of DU-VAE (Shen et al., 2021): ``patience`` epochs in a row with a higher loss than the
    one to beat halve the rate and bring the best weights back, the current loss then being the one to beat; training
    ends at the fifth decay.
    """
    rng = np.random.default_rng(seed)
    classifier = best = LinearClassifier.zero(codes.shape[1], classes)
    best_loss = to_beat = float("inf")
    stale = decays = 0
    for _ in range(epochs):
        for chosen in _batches(len(codes), batch_size, rng):
            classifier = classifier.stepped(codes[chosen], labels[chosen], lr, clip)
        loss = classifier.loss(*validation)
        if loss < best_loss:
            best, best_loss = classifier, loss
        if loss <= to_beat:
            to_beat, stale = loss, 0
            continue
        stale += 1
        if stale >= patience:
            classifier, to_beat, stale, lr, decays = best, loss, 0, 0.5 * lr, decays + 1
            if decays == max_decays:
                break
    return best


def train_by_epochs(
    codes: FloatArray, labels: IntArray, classes: int, *, seed: int, epochs: int = 300, batch_size: int = 50
) -> LinearClassifier:
    """Return a linear classifier trained by Adam with rate 1e-3 for a fixed number of epochs.

    The released ``image_ss_omniglot.py`` of DU-VAE (Shen et al., 2021), whose loss is summed over a batch.
    """
    rng, classifier = np.random.default_rng(seed), LinearClassifier.zero(codes.shape[1], classes)
    # The optimizer works on the classifier's own memory.
    parameters = [torch.from_numpy(t) for t in (classifier.weight, classifier.bias)]
    optimizer = torch.optim.Adam(parameters, lr=1e-3, fused=True)
    for _ in range(epochs):
        for chosen in _batches(len(codes), batch_size, rng):
            gradients = classifier.gradient(codes[chosen], labels[chosen])
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = torch.from_numpy(len(chosen) * gradient)
            optimizer.step()
    return classifier


def _batches(count: int, size: int, rng: np.random.Generator) -> Iterator[IntArray]:
    """Yield the indices of shuffled batches; both scripts leave a batch of one example out."""
    order = rng.permutation(count)
    for start in range(0, count, size):
        if start + 1 < count:
            yield order[start : start + size]
