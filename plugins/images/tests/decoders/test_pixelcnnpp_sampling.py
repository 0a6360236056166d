"""Drawing images from a PixelCNN++ pixel by pixel: exactly what whole passes would have drawn."""

import itertools

import pytest
import torch
from uncollapse.likelihoods import BernoulliLikelihood
from uncollapse_images.decoders import PixelCNNPPDecoder
from uncollapse_images.likelihoods import LogisticMixtureLikelihood

CASES = [
    # latent, event, levels, blocks, activation
    ((5,), (3, 8, 8), 3, 1, "concat_elu"),
    ((4, 1, 2), (3, 4, 8), 3, 2, "elu"),
    ((4, 4, 4), (1, 8, 8), 2, 1, "concat_elu"),
    ((2, 8, 4), (3, 8, 4), 3, 1, "elu"),
    ((3, 5, 3), (2, 5, 3), 1, 2, "concat_elu"),
]


def decoder_of(latent, event, levels, blocks, activation) -> PixelCNNPPDecoder:
    decoder = PixelCNNPPDecoder(
        latent, event, LogisticMixtureLikelihood(event, 3), levels, blocks, 5, 2, activation, dropout=0.3
    ).eval()  # fmt: skip
    decoder.initialize(torch.randn(10, *latent), images(10, event))
    return decoder


def images(count: int, event: tuple[int, ...]) -> torch.Tensor:
    return torch.randint(0, 256, (count, *event)) / 255


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize(("latent", "event", "levels", "blocks", "activation"), CASES)
@torch.no_grad()
def test_outputs_equal_a_whole_pass(latent, event, levels, blocks, activation, dtype, tolerance) -> None:
    decoder = decoder_of(latent, event, levels, blocks, activation).to(dtype)
    x, z = images(4, event).to(dtype), torch.randn(4, *latent, dtype=dtype)
    whole = decoder.network(x, z)
    state = decoder.network.incremental(z)
    for row, column in itertools.product(range(event[1]), range(event[2])):
        outputs = state.outputs(row, column)
        expected = whole[:, :, row : row + 1, column : column + 1]
        torch.testing.assert_close(outputs, expected, rtol=0, atol=tolerance)
        state.put(row, column, x[:, :, row, column])
    assert whole.std() > 0.5


@pytest.mark.parametrize(("latent", "event", "levels", "blocks", "activation"), CASES)
@torch.no_grad()
def test_the_same_noise_gives_the_same_pixels_as_the_plain_loop(latent, event, levels, blocks, activation) -> None:
    decoder = decoder_of(latent, event, levels, blocks, activation).double()
    z = torch.randn(2, 3, *latent).double()
    torch.manual_seed(5)
    plain = torch.zeros(6, *event).double()
    for row, column in itertools.product(range(event[1]), range(event[2])):
        outputs = decoder.network(plain, z.flatten(0, 1))[:, :, row : row + 1, column : column + 1]
        plain[:, :, row, column] = decoder.likelihood(outputs).sample()[..., 0, 0]
    torch.manual_seed(5)
    assert torch.equal(decoder(z).sample(), plain.view(2, 3, *event))


def test_samples_follow_the_probabilities() -> None:
    event, count = (1, 2, 2), 4_000
    decoder = PixelCNNPPDecoder((3,), event, BernoulliLikelihood(event), 2, 1, 6, 2).double().eval()
    decoder.initialize(torch.randn(50, 3).double(), torch.rand(50, *event).double().round())
    p_x = decoder(torch.randn(2, 3).double())
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4))).double().view(16, 1, *event)
    probabilities = p_x.log_prob(every).exp().detach()
    samples = p_x.sample((count,))
    assert samples.shape == (count, 2, *event)
    assert samples.dtype == torch.float64
    assert not samples.requires_grad
    codes = (samples.flatten(2) * torch.tensor([8.0, 4.0, 2.0, 1.0])).sum(-1).long()
    for example in range(2):
        observed = torch.bincount(codes[:, example], minlength=16)
        expected = count * probabilities[:, example]
        chi_square = ((observed - expected).square() / expected).sum()
        assert chi_square < 37.7  # the 0.999 quantile with 15 degrees of freedom


@torch.no_grad()
def test_autocast_draws_what_float32_draws() -> None:
    decoder = decoder_of((4, 2, 2), (3, 8, 8), 3, 1, "concat_elu")
    p_x = decoder(torch.randn(3, 4, 2, 2))
    torch.manual_seed(1)
    expected = p_x.sample()
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(p_x.sample(), expected)
    torch.testing.assert_close((expected * 255).round() / 255, expected)
    assert expected.min() >= 0
    assert expected.max() <= 1


def test_a_second_image_starts_afresh() -> None:
    decoder = decoder_of((5,), (3, 4, 4), 2, 1, "elu")
    p_x = decoder(torch.randn(2, 5))
    torch.manual_seed(2)
    first = p_x.sample()
    torch.manual_seed(2)
    assert torch.equal(first, p_x.sample())
