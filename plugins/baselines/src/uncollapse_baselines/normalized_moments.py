"""Batch normalization of a posterior's means, over the batch of all processes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from uncollapse.errors import ShapeError
from uncollapse.inference import gather_batch
from uncollapse.protocols import Progress

__all__ = ["BatchNormalized"]


class BatchNormalized(nn.Module):
    """``(t - batch mean) / batch deviation`` in every latent dimension: Ioffe and Szegedy, Batch Normalization (2015),
    algorithm 1, https://arxiv.org/abs/1502.03167, without its scale and shift.

    A base for moment transforms, which differ in what they do to the scale. In training the statistics are those of the
    global batch, with gradients, in evaluation running ones. Torch's own layer would take those of a process's share.
    What is encoded beside the data (pseudo-inputs, decoded images) is normalized as the data of the step are, and
    leaves no trace.

    Args:
        latent_shape: Shape ``D`` of one latent.
        momentum: Weight of a batch in the running statistics.
        eps: Added to the batch's variance.
        name: What a message calls the transform; its type in a pipeline.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self, latent_shape: tuple[int, ...], momentum: float = 0.1, eps: float = 1e-5, name: str = "batch normalization"
    ) -> None:
        super().__init__()
        self.momentum, self.eps, self.name = momentum, eps, name
        self.size = math.prod(latent_shape)
        self.register_buffer("running_mean", torch.zeros(self.size))
        self.register_buffer("running_var", torch.ones(self.size))
        self._of_data: tuple[Tensor, Tensor] | None = None

    def normalized(self, t: Tensor, progress: Progress | None = None) -> Tensor:
        """Return ``[B, K]`` for ``[B, *D]`` flattened to ``K`` dimensions; in training, note statistics of data.

        Raises:
            ShapeError: There is one example only, in training.
        """
        flat = t.flatten(1)
        center, variance = self.running_mean, self.running_var
        if self.training and (progress is None or progress.of_data):
            center, variance = self._of_batch(flat)
            self._of_data = center.detach(), variance.detach()
        elif self.training and self._of_data is not None:
            center, variance = self._of_data
        return (flat - center) * (variance + self.eps).rsqrt()

    def _of_batch(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        batch = gather_batch(flat)
        count = len(batch)
        if count < 2:
            raise ShapeError(
                f"model.posterior.moments: {self.name} needs at least 2 examples a batch in training, found {count}; "
                "raise data.batch_size, or leave out short batches (training.drop_last; data.smallest_batch for texts)"
            )
        center, variance = batch.mean(0), batch.var(0, unbiased=False)
        with torch.no_grad():
            self.running_mean.lerp_(center.to(self.running_mean), self.momentum)
            # Unbiased, as torch's batch normalization keeps it.
            self.running_var.lerp_(variance.to(self.running_var) * count / (count - 1), self.momentum)
        return center, variance
