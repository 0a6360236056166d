"""What stands for an example in a probe."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from uncollapse import LatentVariableModel, Pipeline
from uncollapse.config.pipeline import EvaluationConfig
from uncollapse.data import TensorSplit
from uncollapse.decoders import MLPDecoder
from uncollapse.encoders import MLPEncoder
from uncollapse.errors import ConfigError
from uncollapse.evaluation import check_evaluation, encode
from uncollapse.likelihoods import BernoulliLikelihood
from uncollapse.posteriors import GaussianPosterior
from uncollapse.priors import StandardNormalPrior
from uncollapse_latents.posteriors import InverseAutoregressivePosterior, TwoLevelPosterior

SHAPE = (1, 2, 3)


def model(posterior):
    decoder = MLPDecoder(posterior.latent_shape, SHAPE, BernoulliLikelihood(SHAPE), (8,))
    return LatentVariableModel(MLPEncoder(SHAPE, (8,)), posterior, StandardNormalPrior(posterior.latent_shape), decoder)


@pytest.fixture
def split():
    return TensorSplit(torch.rand(10, *SHAPE).round(), support="binary")


@pytest.mark.parametrize("blocks", [1, 2])
def test_base_and_end_of_a_flow(split, blocks):
    whole = model(InverseAutoregressivePosterior((8,), 4, blocks=blocks, hidden=8)).eval()
    codes, labels = encode(whole, split, batch_size=4, codes="base_and_end")
    assert codes.shape == (10, 8)
    assert labels is None
    # Evaluation visits a split in an order of its own.
    q = whole.infer(torch.cat([batch.x for batch in split.batches(4, shuffle=True)]))
    torch.testing.assert_close(codes[:, :4], q.base.mean)
    torch.testing.assert_close(codes[:, 4:], q.flow(q.base.mean))
    # The default is the mean of the flow, which is where nothing in particular goes.
    assert encode(whole, split)[0].shape == (10, 4)


def test_base_and_end_of_a_gaussian_is_its_mean(split):
    whole = model(GaussianPosterior((8,), (4,)))
    assert torch.equal(encode(whole, split, codes="base_and_end")[0], encode(whole, split)[0])


def test_base_and_end_need_a_gaussian(split):
    whole = model(TwoLevelPosterior((8,), 2, 2, 8))
    with pytest.raises(ConfigError, match="the posterior, TwoLevelNormal, has no codes 'base_and_end'; allowed: mean"):
        encode(whole, split, codes="base_and_end")


@pytest.mark.parametrize("name", ["sample", "base", "flow", "base_end"])
def test_what_a_posterior_does_not_list_is_no_code(split, name):
    whole = model(InverseAutoregressivePosterior((8,), 4, hidden=8)).eval()
    with pytest.raises(ConfigError, match=f"has no codes '{name}'.*; allowed: mean, base_and_end"):
        encode(whole, split, codes=name)


def test_samples_are_not_averaged_into_base_and_end():
    with pytest.raises(ValidationError, match="leave one of them out"):
        EvaluationConfig(codes="base_and_end", code_samples=5)


def test_codes_that_a_posterior_does_not_have_are_found_before_training():
    parts = {
        "encoder": {"type": "mlp", "hidden": [8]},
        "posterior": {"type": "two_level", "bottom_dim": 2, "top_dim": 2, "hidden": 8},
        "prior": {"type": "two_level", "hidden": [8]},
        "decoder": {"type": "mlp", "hidden": [8]},
    }
    raw = {"name": "tiny", "data": {"type": "digits", "binarize": "dynamic"}, "model": parts}
    built = Pipeline.from_dict(raw).build()
    wanted = EvaluationConfig(codes="base_and_end", probes=["knn"])
    with pytest.raises(ConfigError, match="has no codes 'base_and_end'"):
        check_evaluation(built, wanted)
    check_evaluation(built, EvaluationConfig(codes="base_and_end"))
