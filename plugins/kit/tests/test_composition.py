"""Parts go together from validation to loading, or are refused with a reason; a fault afterwards is no answer."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from uncollapse.decoders.mlp import MLPDecoderConfig
from uncollapse.encoders.mlp import MLPEncoderConfig
from uncollapse.objectives import ELBOConfig
from uncollapse.posteriors.gaussian import GaussianPosteriorConfig
from uncollapse.priors.standard_normal import StandardNormalPriorConfig
from uncollapse.protocols import DataSpec, SpecialTokens
from uncollapse_images.decoders.pixelcnn import PixelCNNDecoderConfig
from uncollapse_kit import Parts, compose
from uncollapse_latents.posteriors.iaf import InverseAutoregressivePosteriorConfig
from uncollapse_latents.priors.autoregressive_conv import AutoregressiveConvPriorConfig
from uncollapse_text.decoders.lstm import LSTMDecoderConfig
from uncollapse_text.encoders.lstm import LSTMEncoderConfig

PLAIN = Parts(
    DataSpec((1, 8, 8), "binary", classes=3),
    MLPEncoderConfig(hidden=(8,)),
    GaussianPosteriorConfig(latent_dim=4),
    StandardNormalPriorConfig(),
    MLPDecoderConfig(hidden=(8,)),
    ELBOConfig(),
)
TEXT = DataSpec((7,), "tokens", classes=3, vocabulary_size=11, special=SpecialTokens())


@pytest.mark.parametrize(
    "parts",
    [
        PLAIN,
        replace(PLAIN, decoder=PixelCNNDecoderConfig(kernels=(3, 3), channels=4), posterior=InverseAutoregressivePosteriorConfig(latent_dim=4, hidden=8)),
        replace(PLAIN, data=TEXT, encoder=LSTMEncoderConfig(embedding=4, hidden=8), decoder=LSTMDecoderConfig(embedding=4, hidden=8)),
    ],
    ids=["plain", "pixelcnn with a flow", "text"],
)  # fmt: skip
def test_parts_that_go_together(parts):
    found = compose(parts)
    assert found.works, found.reason
    assert not found.skipped


def test_parts_that_do_not_are_refused_with_the_reason():
    found = compose(replace(PLAIN, prior=AutoregressiveConvPriorConfig(hidden=4)))
    assert not found.works
    assert found.reason.startswith("model.prior: 'autoregressive_conv' is for latents of maps (C, H, W)")


def test_what_goes_wrong_after_validation_is_raised(monkeypatch):
    class Forgetful(MLPDecoderConfig):
        def build(self, context):
            decoder = super().build(context)
            # What is not in the state is lost when the model is saved.
            decoder.register_buffer("shift", torch.rand(()), persistent=False)
            decoder.net.register_forward_hook(lambda module, inputs, output: output + decoder.shift)
            return decoder

    parts = replace(PLAIN, decoder=Forgetful(hidden=(8,)))
    monkeypatch.setattr("uncollapse.building.set_seed", lambda seed: None)
    with pytest.raises(AssertionError, match="changed when the model was saved and loaded"):
        compose(parts)
