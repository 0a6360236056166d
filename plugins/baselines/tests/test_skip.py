"""Skip-VAE's decoders: the latent reaches every layer, and without skips they are the core's."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from uncollapse.config import BuildContext
from uncollapse.decoders import ConvDecoder
from uncollapse.errors import ShapeError
from uncollapse.likelihoods import BernoulliLikelihood
from uncollapse.protocols import DataSpec
from uncollapse_baselines import SkipConvDecoder, SkipConvDecoderConfig, SkipMLPDecoder

SHAPE = (1, 8, 8)


def test_layers_add_a_matrix_of_the_latent():
    decoder = SkipMLPDecoder((3,), SHAPE, BernoulliLikelihood(SHAPE), (5, 4), "tanh").double()
    z = torch.randn(2, 6, 3, dtype=torch.float64)
    (first, second, last), (v_second, v_last) = decoder.layers, decoder.skips
    h = (z @ first.weight.T + first.bias).tanh()
    h = (h @ second.weight.T + second.bias + z @ v_second.weight.T).tanh()
    logits = h @ last.weight.T + last.bias + z @ v_last.weight.T
    torch.testing.assert_close(decoder(z).logits, logits.view(2, 6, *SHAPE))
    assert decoder(z).batch_shape == (2, 6)
    assert len(decoder.skips) == 2


@pytest.mark.parametrize("latent", [(3,), (2, 2, 2)])
def test_without_skips_it_is_the_core_s_convolutional_decoder(latent):
    torch.manual_seed(0)
    plain = ConvDecoder(latent, SHAPE, BernoulliLikelihood(SHAPE), (6, 4))
    torch.manual_seed(0)
    skipping = SkipConvDecoder(latent, SHAPE, BernoulliLikelihood(SHAPE), (6, 4))
    z = torch.randn(2, 5, *latent)
    assert not torch.allclose(skipping(z).logits, plain(z).logits, atol=1e-3)
    with torch.no_grad():
        for skip in skipping.skips:
            skip.weight.zero_()
    torch.testing.assert_close(skipping(z).logits, plain(z).logits)
    assert [skip.out_features for skip in skipping.skips] == [4, 1]


def test_the_latent_reaches_the_outputs_past_a_cut():
    decoder = SkipConvDecoder((3,), SHAPE, BernoulliLikelihood(SHAPE), (6, 4))
    with torch.no_grad():
        for parameter in decoder.stem.parameters():
            parameter.zero_()
    z = torch.randn(1, 3, requires_grad=True)
    decoder(z).logits.sum().backward()
    assert bool((z.grad != 0).all())


def test_other_data_than_images_are_refused():
    with pytest.raises(ShapeError, match=r"event shape \(5,\)"):
        SkipConvDecoderConfig().build(BuildContext(DataSpec((5,), "binary"), (3,)))


def test_a_kernel_size_too_few_is_refused_with_the_config():
    with pytest.raises(ValidationError, match="kernel_size"):
        SkipConvDecoderConfig(kernel_size=(3, 3))
