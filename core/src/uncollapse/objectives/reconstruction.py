"""Reconstruction only: no rate at all."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ..component import BuildContext
from ..kinds import ObjectiveConfig
from ..model import LatentVariableModel
from ..protocols import Batch, Loss, Progress

__all__ = ["Reconstruction", "ReconstructionConfig"]


class Reconstruction:
    """The distortion alone, ``-E_q log p(x|z)``, in nats per example: Zhao et al., InfoVAE (2017), eq. 2,
    https://arxiv.org/abs/1706.02262v1, the unregularised model; regularizers add their divergence to it.

    Args:
        samples: Draws of the posterior per example, ``S``.
    """

    def __init__(self, samples: int = 1) -> None:
        self.samples = samples

    def __call__(self, model: LatentVariableModel, batch: Batch, progress: Progress) -> Loss:
        """Return the loss; the rate is reported, without gradient, and does not count."""
        inference = model(batch.x, samples=self.samples, progress=progress)
        distortion = inference.distortion
        rate = inference.rate().detach()
        return Loss(
            total=distortion.mean(),
            terms={"elbo": -(distortion + rate), "distortion": distortion, "rate": rate},
            inference=inference,
        )


class ReconstructionConfig(ObjectiveConfig):
    """The distortion alone: Zhao et al. (2017), eq. 2, https://arxiv.org/abs/1706.02262v1."""

    type: Literal["reconstruction"] = "reconstruction"
    samples: int = Field(1, ge=1, description="draws of the posterior per example")

    def build(self, context: BuildContext) -> Reconstruction:
        """Return the objective."""
        return Reconstruction(self.samples)
