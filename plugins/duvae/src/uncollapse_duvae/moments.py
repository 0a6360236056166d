"""What DU-VAE does to the posterior's moments: batch-normalized means, floored and dropped variances."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor, nn
from uncollapse.config import BuildContext, MomentTransformConfig
from uncollapse.distributions import DiagonalNormal
from uncollapse.errors import ConfigError
from uncollapse.protocols import Progress
from uncollapse_baselines import BatchNormalized

from .functional import FLOOR, drop_variance, floor_variance, rescale

__all__ = [
    "BatchNormalizedMeans",
    "BatchNormalizedMeansConfig",
    "Rescale",
    "VarianceDropout",
    "VarianceDropoutConfig",
    "VarianceFloor",
    "VarianceFloorConfig",
]

Rescale = Literal["after_update", "each_forward"]


class BatchNormalizedMeans(BatchNormalized):
    """``gamma_d (mean - batch mean) / batch deviation + beta_d`` with the root mean square of ``gamma_d`` held at
    ``gamma``: Shen et al., DU-VAE (2021), eq. 9 and algorithm 1, https://arxiv.org/abs/2110.12381.

    The means' variances over the data then sum to ``n gamma²`` for ``n`` dimensions; unlike BN-VAE, which fixes every
    ``gamma_d``, single dimensions may fall silent. In training the statistics are those of the global batch, in
    evaluation running ones. Nobody has to call anything after an update: the next forward pass in training starts by
    rescaling what the optimizer left, and evaluation reads it rescaled.

    Args:
        latent_shape: Shape ``D`` of one latent.
        gamma: Root mean square of the scales, and their initial value.
        rescale: ``after_update``: algorithm 1, line 9; what is saved is rescaled, and evaluation changes nothing.
            ``each_forward``: as the released code, in evaluation too; what is saved is as the optimizer left it. The
            model computes the same either way.
        momentum: Weight of a batch in the running statistics.
        eps: Added to the batch's variance; the released DU-IAF has 1e-8.
    """

    def __init__(
        self,
        latent_shape: tuple[int, ...],
        gamma: float = 0.5,
        rescale: Rescale = "after_update",
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> None:
        super().__init__(latent_shape, momentum, eps, "duvae.batch_norm")
        self.gamma, self.rescale = gamma, rescale
        self.weight = nn.Parameter(torch.full((self.size,), gamma))
        self.bias = nn.Parameter(torch.zeros(self.size))

    def forward(self, mean: Tensor, logvar: Tensor, progress: Progress | None = None) -> tuple[Tensor, Tensor]:
        """Return the normalized means and the log-variances as they are, ``[B, *D]``.

        Raises:
            ShapeError: There is one example only, in training.
        """
        return (self._scale() * self.normalized(mean, progress) + self.bias).view_as(mean), logvar

    def broken(self, q: DiagonalNormal) -> str:
        """Return in what posteriors of a training batch break the promise: the sum of the variances of their means."""
        spread, promised = q.mean.flatten(1).var(0, unbiased=False).sum().item(), self.size * self.gamma**2
        # eps takes a little where a network's means hardly differ.
        kept = 0.9 * promised < spread < 1.001 * promised
        return "" if kept else f"the means' variances sum to {spread:.4g}, promised is {promised:.4g}"

    def extra_repr(self) -> str:
        """Return the options."""
        return f"gamma={self.gamma}, rescale={self.rescale!r}, momentum={self.momentum}, eps={self.eps}"

    def _scale(self) -> Tensor:
        if self.training or self.rescale == "each_forward":
            # Past autograd, which must not count this as a change of what an earlier pass of this step has saved.
            self.weight.data.copy_(rescale(self.weight.data, self.gamma))
            return self.weight
        return rescale(self.weight, self.gamma)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.rescale == "after_update" and not keep_vars:
            # A copy: when a run is saved must not change where it goes.
            destination[f"{prefix}weight"] = rescale(self.weight.detach(), self.gamma)


class VarianceFloor(nn.Module):
    """``var + alpha`` in the place of every variance, ``alpha = 1 / (2 pi e)``: Shen et al., DU-VAE (2021), section
    3.1, https://arxiv.org/abs/2110.12381. No posterior then has a negative differential entropy in any dimension.

    Args:
        scale: Factor on ``alpha``.
        from_epoch: The floor is there from this epoch on. 0 as in the paper; the released encoders with batch
            normalization have it only once the weight of the rate is 1: with ``rate_weight: {type: linear,
            until_epoch: E}`` that is ``E``.
    """

    def __init__(self, scale: float = 1.0, from_epoch: float = 0.0) -> None:
        super().__init__()
        self.floor, self.from_epoch = scale * FLOOR, from_epoch

    def forward(self, mean: Tensor, logvar: Tensor, progress: Progress | None = None) -> tuple[Tensor, Tensor]:
        """Return the mean as it came and the floored log-variance, ``[B, *D]``."""
        return mean, floor_variance(logvar, self.floor) if self._started(progress) else logvar

    def broken(self, q: DiagonalNormal) -> str:
        """Return in what a posterior breaks the promise once it holds: some variance; empty where it keeps it."""
        least = q.variance.min().item()
        return (
            "" if least >= self.floor * (1 - 1e-5) else f"a variance is {least:.4g}, below the floor {self.floor:.4g}"
        )

    def extra_repr(self) -> str:
        """Return the options."""
        return f"floor={self.floor:.6g}, from_epoch={self.from_epoch}"

    def _started(self, progress: Progress | None) -> bool:
        """Whether the floor is there; for whoever does not say where the run stands, it is."""
        if progress is None or progress.final:
            return True
        # A linear weight is raised before it is used, so it is 1 in the last step of its last epoch.
        return progress.step + 1 >= self.from_epoch * progress.steps_per_epoch


class VarianceDropout(VarianceFloor):
    """``g (var - alpha) + alpha`` with ``g = 1/p`` or, with probability ``1 - p``, 0: Shen et al., DU-VAE (2021), eq.
    6, https://arxiv.org/abs/2110.12381, on top of the floor.

    Drawn for every example of the data and dimension in training; in evaluation, and for pseudo-inputs and decoded
    images, there is the floor alone. Samples and rate see the same variance, whose expectation dropout leaves as it is.

    Args:
        keep: ``p``, the probability that a variance is kept; the released ``p_drop`` is ``1 - p``.
        scale: Factor on ``alpha``.
        from_epoch: Floor and dropout are there from this epoch on; see :class:`VarianceFloor`.
    """

    def __init__(self, keep: float = 0.8, scale: float = 1.0, from_epoch: float = 0.0) -> None:
        super().__init__(scale, from_epoch)
        self.keep = keep

    def forward(self, mean: Tensor, logvar: Tensor, progress: Progress | None = None) -> tuple[Tensor, Tensor]:
        """Return the mean as it came and the log-variance after floor and dropout, ``[B, *D]``."""
        if not self.training or not self._started(progress) or not (progress is None or progress.of_data):
            return super().forward(mean, logvar, progress)
        kept = torch.bernoulli(torch.full_like(logvar, self.keep))
        return mean, drop_variance(logvar, kept, self.keep, self.floor)

    def extra_repr(self) -> str:
        """Return the options."""
        return f"keep={self.keep}, {super().extra_repr()}"


class BatchNormalizedMeansConfig(MomentTransformConfig):
    """Batch-normalized means: Shen et al. (2021), eq. 9 and algorithm 1, https://arxiv.org/abs/2110.12381."""

    type: Literal["duvae.batch_norm"] = "duvae.batch_norm"
    gamma: PositiveFloat = Field(0.5, description="root mean square of the means' scales; the paper takes 0.5 to 0.7")
    rescale: Rescale = Field(
        "after_update", description="after_update: algorithm 1; each_forward: as the released code, in evaluation too"
    )
    momentum: float = Field(0.1, gt=0, le=1, description="weight of a batch in the running statistics")
    eps: PositiveFloat = Field(1e-5, description="added to the batch's variance; 1e-8 in the released DU-IAF")

    def build(self, context: BuildContext) -> BatchNormalizedMeans:
        """Return the transform."""
        return BatchNormalizedMeans(context.latent_shape, self.gamma, self.rescale, self.momentum, self.eps)


class _FloorFields(MomentTransformConfig):
    scale: PositiveFloat = Field(1.0, description="factor on alpha = 1 / (2 pi e); the released delta_rate")
    from_epoch: float = Field(
        0.0, ge=0, description="epoch from which on it works; the released code waits for the end of the warm-up"
    )

    def _check(self, context: BuildContext) -> None:
        if context.epochs is not None and self.from_epoch > context.epochs:
            raise ConfigError(
                f"model.posterior.moments ({self.type}): from_epoch: {self.from_epoch:g} lies behind the run, whose "
                f"training.epochs is {context.epochs}; lower it or train longer"
            )


class VarianceFloorConfig(_FloorFields):
    """A floor under the variances: Shen et al. (2021), section 3.1, https://arxiv.org/abs/2110.12381."""

    type: Literal["duvae.variance_floor"] = "duvae.variance_floor"

    def build(self, context: BuildContext) -> VarianceFloor:
        """Return the transform.

        Raises:
            ConfigError: It would never work in this run.
        """
        self._check(context)
        return VarianceFloor(self.scale, self.from_epoch)


class VarianceDropoutConfig(_FloorFields):
    """Dropout on the variances above their floor: Shen et al. (2021), eq. 6, https://arxiv.org/abs/2110.12381."""

    type: Literal["duvae.variance_dropout"] = "duvae.variance_dropout"
    keep: float = Field(0.8, gt=0, le=1, description="probability p that a variance is kept; released p_drop: 1 - p")

    def build(self, context: BuildContext) -> VarianceDropout:
        """Return the transform.

        Raises:
            ConfigError: It would never work in this run.
        """
        self._check(context)
        return VarianceDropout(self.keep, self.scale, self.from_epoch)
