"""Weight normalization of the PixelCNN, and its initialization from data."""

import pytest
import torch
from torch import nn
from uncollapse.capabilities import supports
from uncollapse.likelihoods import BernoulliLikelihood
from uncollapse.protocols import DataInitialized
from uncollapse_images.decoders import MaskedConv2d, PixelCNNDecoder

EVENT = (1, 8, 8)


def decoder_of(conditioning: str, weight_norm: bool = True, scale: float = 1.0) -> PixelCNNDecoder:
    return PixelCNNDecoder(
        (4,), EVENT, BernoulliLikelihood(EVENT), (5, 3, 3), 6, None, conditioning, 4,
        normalization="weight" if weight_norm else "none", init_scale=scale,
    )  # fmt: skip


@pytest.mark.parametrize("scale", [1.0, 0.1])
@pytest.mark.parametrize("conditioning", ["bias", "maps"])
def test_pre_activations_are_standardized_on_the_data(conditioning: str, scale: float) -> None:
    decoder = decoder_of(conditioning, scale=scale)
    assert supports(decoder, DataInitialized)
    z, x = torch.randn(100, 4), torch.rand(100, *EVENT).round()
    decoder.initialize(z, x)
    outputs: dict[str, torch.Tensor] = {}
    layers = {n: m for n, m in decoder.network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    for name, layer in layers.items():
        # Cloned, because activations work in place.
        layer.register_forward_hook(lambda _, __, out, name=name: outputs.__setitem__(name, out.detach().clone()))
    decoder(z).log_prob(x)
    assert len(outputs) == (9 if conditioning == "bias" else 10)
    for name, out in outputs.items():
        std, mean = torch.std_mean(out, [d for d in range(out.dim()) if d != 1], correction=0)
        torch.testing.assert_close(mean / scale, torch.zeros_like(mean), atol=1e-4, rtol=0, msg=name)
        torch.testing.assert_close(std / scale, torch.ones_like(std), atol=1e-3, rtol=0, msg=name)


def test_norms_are_of_live_taps_and_one_gain_an_output() -> None:
    decoder = decoder_of("bias")
    masked = [m for m in decoder.modules() if isinstance(m, MaskedConv2d)]
    assert len(masked) == 3
    for layer in masked:
        log_gain = layer.parametrizations.weight.original0
        assert log_gain.shape == (layer.out_channels, 1)
        torch.testing.assert_close(layer.weight.norm(dim=1, keepdim=True), log_gain.exp())
        assert layer.weight.shape[1] == layer.in_channels * layer.live_taps + 4


def test_without_weight_norm_data_change_nothing() -> None:
    decoder = decoder_of("bias", weight_norm=False)
    before = {n: p.clone() for n, p in decoder.named_parameters()}
    decoder.initialize(torch.randn(10, 4), torch.rand(10, *EVENT).round())
    assert all(torch.equal(before[n], p) for n, p in decoder.named_parameters())


def test_constant_data_leave_everything_finite() -> None:
    decoder = decoder_of("bias")
    z, x = torch.zeros(10, 4), torch.zeros(10, *EVENT)
    decoder.initialize(z, x)
    assert all(torch.isfinite(p).all() for p in decoder.parameters())
    assert torch.isfinite(decoder(torch.randn(10, 4)).log_prob(torch.ones(10, *EVENT))).all()
