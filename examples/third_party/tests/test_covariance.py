"""The penalty, compared with numpy's covariance in float64."""

from pathlib import Path

import numpy as np
import pytest
import torch
from uncollapse import Pipeline
from uncollapse.config import BuildContext
from uncollapse.errors import ConfigError
from uncollapse.protocols import DataSpec
from uncollapse_decorrelate import CovariancePenalty, CovariancePenaltyConfig, covariance
from uncollapse_kit import assert_conforms, reference_inference, reference_model

MEAN = torch.tensor([[0.5, -1.0, 2.0], [1.5, 0.0, -1.0], [-0.5, 3.0, 0.25], [0.0, 0.5, 0.5]])
LOGVAR = torch.tensor([[0.0, -1.0, 0.5], [-2.0, 0.3, 0.0], [0.1, 0.0, -3.0], [0.0, 0.0, 1.0]])


def penalty_of(mean: torch.Tensor, logvar: torch.Tensor, penalty: CovariancePenalty) -> float:
    context = BuildContext(DataSpec((1, 4, 4), "binary"), latent_shape=tuple(mean.shape[1:]))
    x = torch.zeros(len(mean), 1, 4, 4)
    return penalty(reference_inference(reference_model(context), x, mean, logvar)).total.item()


def expected(variant: str, off_diagonal: float, diagonal: float) -> float:
    found = np.cov(MEAN.double().numpy().T, bias=True)
    if variant == "ii":
        found = found + np.diag(LOGVAR.double().exp().mean(0).numpy())
    outside = found - np.diag(np.diag(found))
    return float(off_diagonal * (outside**2).sum() + diagonal * ((np.diag(found) - 1) ** 2).sum())


@pytest.mark.parametrize(("variant", "factor"), [("i", 10.0), ("ii", 1.0)])
def test_the_penalty_is_that_of_the_paper(variant, factor) -> None:
    default = CovariancePenalty(2.0, variant=variant)
    assert penalty_of(MEAN, LOGVAR, default) == pytest.approx(expected(variant, 2.0, 2.0 * factor), rel=1e-5)
    own = CovariancePenalty(0.3, 0.7, variant)
    assert penalty_of(MEAN, LOGVAR, own) == pytest.approx(expected(variant, 0.3, 0.7), rel=1e-5)


def test_what_collapse_costs() -> None:
    zeros = torch.zeros(6, 4)
    assert penalty_of(zeros, zeros, CovariancePenalty(2.0, 3.0, "i")) == pytest.approx(4 * 3.0)
    assert penalty_of(zeros, zeros, CovariancePenalty(2.0, 3.0, "ii")) == pytest.approx(0.0)


def test_spread_and_independent_means_cost_nothing() -> None:
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
    assert torch.allclose(covariance(signs, torch.zeros_like(signs)), torch.eye(3))
    assert penalty_of(signs, torch.zeros_like(signs), CovariancePenalty(5.0)) == pytest.approx(0.0, abs=1e-5)


def test_a_posterior_without_moments_is_refused() -> None:
    context = BuildContext(DataSpec((1, 4, 4), "binary"), latent_shape=(3,))
    inference = reference_inference(reference_model(context), torch.zeros(4, 1, 4, 4), MEAN, LOGVAR)
    object.__setattr__(inference, "q", torch.distributions.Gumbel(MEAN, 1.0))
    with pytest.raises(ConfigError, match="needs a Gaussian posterior, whose moments are known, found Gumbel"):
        CovariancePenalty()(inference)


@pytest.mark.parametrize("variant", ["i", "ii"])
def test_it_conforms(variant) -> None:
    assert_conforms(CovariancePenaltyConfig(variant=variant))


def test_the_pipeline_builds() -> None:
    Pipeline.from_yaml(Path(__file__).parents[1] / "pipeline.yaml").build()
