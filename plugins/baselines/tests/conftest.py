"""A model that is small enough for brute force."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from uncollapse import LatentVariableModel
from uncollapse.decoders import MLPDecoder
from uncollapse.encoders import MLPEncoder
from uncollapse.likelihoods import BernoulliLikelihood
from uncollapse.posteriors import GaussianPosterior
from uncollapse.priors import StandardNormalPrior

SHAPE = (1, 2, 3)


@pytest.fixture
def tiny_model() -> Callable[..., LatentVariableModel]:
    """Build a float64 model on six binary pixels: smooth, so that differences tell derivatives."""

    def build(latent: int = 2, posterior: nn.Module | None = None) -> LatentVariableModel:
        encoder = MLPEncoder(SHAPE, (4,), activation="tanh")
        decoder = MLPDecoder((latent,), SHAPE, BernoulliLikelihood(SHAPE), (5,), activation="tanh")
        posterior = posterior or GaussianPosterior(encoder.feature_shape, (latent,))
        return LatentVariableModel(encoder, posterior, StandardNormalPrior((latent,)), decoder).double()

    return build


@pytest.fixture
def pixels() -> Callable[[int], torch.Tensor]:
    """Draw binary examples ``[N, 1, 2, 3]``."""
    return lambda count: (torch.rand(count, *SHAPE) < 0.5).double()
