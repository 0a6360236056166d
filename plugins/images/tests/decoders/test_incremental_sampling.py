"""Sampling with cached features: the same pixels from the same noise as a pass over the whole image for each."""

from itertools import product
from typing import Any

import pytest
import torch
from pixel_reference import KINDS, build, plain_sample
from uncollapse.capabilities import supports
from uncollapse.likelihoods import BernoulliLikelihood, CategoricalLikelihood, GaussianLikelihood
from uncollapse.protocols import ReportsProgress
from uncollapse_images.decoders import AutoregressivePixels
from uncollapse_images.likelihoods import LogisticMixtureLikelihood

EVENT = (3, 5, 4)
EXTRA = {"masked": {"long_skips": True}, "gated": {"condition": "horizontal"}}


def drawn_and_plain(decoder: Any, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(3)
    drawn = decoder(z).sample()
    torch.manual_seed(3)
    return drawn, plain_sample(decoder, z)


@pytest.mark.parametrize("order", ["joint", "descending"])
@pytest.mark.parametrize("normalization", ["none", "weight", "batch"])
@pytest.mark.parametrize("conditioning", ["bias", "maps"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_noise_gives_the_same_pixels(kind: str, conditioning: str, normalization: str, order: str) -> None:
    # The options beside these change with them, so that every one meets every other.
    extra = EXTRA[kind] if (normalization == "none") == (conditioning == "bias") else {}
    fields = {"conditioning": conditioning, "normalization": normalization, "channel_order": order, **extra}
    decoder = build(kind, EVENT, CategoricalLikelihood(EVENT, 4), **fields)
    drawn, plain = drawn_and_plain(decoder, torch.randn(2, 3, 2).double())
    assert torch.equal(drawn, plain)
    assert len(drawn.unique()) == 4


@pytest.mark.parametrize("batch", [(), (1,), (2, 1, 2)])
@pytest.mark.parametrize("kind", KINDS)
def test_any_batch(kind: str, batch: tuple[int, ...]) -> None:
    decoder = build(kind, (1, 4, 4), conditioning="maps", maps_activation="none")
    z = torch.randn(*batch, 2).double()
    if batch:
        drawn, plain = drawn_and_plain(decoder, z)
        assert torch.equal(drawn, plain)
    assert decoder(z).sample((3,)).shape == (3, *batch, 1, 4, 4)
    assert decoder(z.expand(0, *z.shape)).sample().shape == (0, *batch, 1, 4, 4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch finds none")
@pytest.mark.parametrize("kind", KINDS)
def test_on_a_gpu(kind: str) -> None:
    decoder = build(kind, EVENT, conditioning="maps", normalization="weight", channel_order="ascending").cuda()
    drawn, plain = drawn_and_plain(decoder, torch.randn(2, 3, 2).double().cuda())
    assert drawn.is_cuda
    assert torch.equal(drawn, plain)


@pytest.mark.parametrize("kind", KINDS)
def test_channels_that_the_likelihood_couples(kind: str) -> None:
    decoder = build(kind, EVENT, LogisticMixtureLikelihood(EVENT, 2))
    drawn, plain = drawn_and_plain(decoder, torch.randn(3, 2).double())
    torch.testing.assert_close(drawn, plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kernels", [(3,), (3, 3), (7, 5, 3, 3), (9, 1, 9)])
@pytest.mark.parametrize("event", [(1, 1, 6), (1, 6, 1), (1, 3, 5)])
@pytest.mark.parametrize("kind", KINDS)
def test_images_smaller_than_the_kernels(kind: str, event: tuple[int, int, int], kernels: tuple[int, ...]) -> None:
    drawn, plain = drawn_and_plain(build(kind, event, kernels=kernels), torch.randn(5, 2).double())
    assert torch.equal(drawn, plain)


def logits_while_drawing(decoder: Any, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
    state = decoder.network.incremental(condition)
    outputs = torch.empty(len(x), decoder.event_shape[0], *x.shape[2:])
    for row, column in product(range(x.shape[2]), range(x.shape[3])):
        outputs[:, :, row, column] = state.outputs(row, column)[:, :, 0, 0]
        state.put(row, column, x[:, :, row, column])
    return outputs


@torch.no_grad()
@pytest.mark.parametrize("normalization", ["weight", "batch"])
@pytest.mark.parametrize("kind", KINDS)
def test_float32_logits_agree_to_1e_5(kind: str, normalization: str) -> None:
    extra = {"long_skips": True} if kind == "masked" else {}
    kernels = (7, 7, 5, 5, 3, 3)
    decoder = build(kind, (1, 12, 12), kernels=kernels, channels=32, normalization=normalization, **extra).float()
    x, z = torch.rand(8, 1, 12, 12).round(), torch.randn(8, 2)
    condition = decoder.network.condition(z)
    found, expected = logits_while_drawing(decoder, x, condition), decoder.network(x, condition)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("way", ["autocast", "weights"])
@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16(kind: str, way: str) -> None:
    decoder = build(kind, (1, 6, 6), conditioning="maps", normalization="weight").float()
    x, z = torch.rand(4, 1, 6, 6).round(), torch.randn(2, 4, 2)
    exact = decoder(z).teacher_forced(x).mean
    if way == "weights":
        decoder, z = decoder.bfloat16(), z.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=way == "autocast"):
        p_x = decoder(z)
        samples = p_x.sample()
        log_p = p_x.log_prob(samples)
        found = logits_while_drawing(decoder, x, decoder.network.condition(z[0])).sigmoid()
    assert samples.dtype == log_p.dtype == torch.float32
    assert log_p.isfinite().all()
    torch.testing.assert_close(found, exact[0], rtol=0, atol=0.03)


@pytest.mark.parametrize("kind", KINDS)
def test_running_statistics_count_in_training_mode_as_well(kind: str) -> None:
    decoder, z = build(kind, (1, 4, 4), normalization="batch"), torch.randn(6, 2).double()
    torch.manual_seed(5)
    expected = decoder(z).sample()
    state = {name: value.clone() for name, value in decoder.state_dict().items()}
    decoder.train()
    torch.manual_seed(5)
    assert torch.equal(decoder(z).sample(), expected)
    assert all(torch.equal(state[name], value) for name, value in decoder.state_dict().items())
    # In training mode a density depends on the other images, so that it is not the samples'.
    x = expected
    assert not torch.allclose(decoder(z[:3]).log_prob(x[:3]), decoder(z).log_prob(x)[:3])


@pytest.mark.parametrize("kind", KINDS)
def test_progress_is_reported_and_samples_carry_no_gradient(kind: str) -> None:
    decoder = build(kind, (1, 4, 3))
    p_x = decoder(torch.randn(2, 2).double())
    shares: list[float] = []
    p_x.progress = shares.append
    samples = p_x.sample()
    assert shares == [0.25, 0.5, 0.75, 1.0]
    assert supports(p_x, ReportsProgress)
    assert not samples.requires_grad
    # Samples may enter a computation with gradients again.
    assert torch.autograd.grad(p_x.log_prob(samples).sum(), decoder.parameters(), allow_unused=True)


@pytest.mark.parametrize("kind", KINDS)
def test_the_support_is_the_likelihood_s(kind: str) -> None:
    z = torch.randn(5, 2).double()
    binary = build(kind, (1, 4, 3))(z)
    assert binary.support.is_discrete
    assert binary.support.check(binary.sample()).all()
    real = build(kind, (2, 4, 3), GaussianLikelihood((2, 4, 3), "per_value"))(z)
    assert not real.support.is_discrete
    assert real.support.check(torch.randn(5, 2, 4, 3)).all()


def test_weights_count_as_they_are_when_drawing_begins() -> None:
    decoder, z = build("masked", (1, 4, 4), normalization="weight"), torch.randn(50, 2).double()
    p_x = decoder(z)
    torch.manual_seed(0)
    before = p_x.sample()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.mul_(1.5)
    torch.manual_seed(0)
    assert not torch.equal(p_x.sample(), before)
    assert torch.equal(*drawn_and_plain(decoder, z))


def test_a_network_of_another_kind_can_be_drawn_from() -> None:
    """The distribution asks for the protocol only: here positions that copy the pixel before them."""

    class Copies:
        def __call__(self, x: torch.Tensor, conditioning: torch.Tensor) -> torch.Tensor:
            before = torch.nn.functional.pad(x.flatten(1), (1, -1)).view_as(x)
            return 40 * before.repeat(len(conditioning) // len(x), 1, 1, 1) - 20 + conditioning[:, :, None, None]

        def incremental(self, conditioning: torch.Tensor) -> Any:
            self.last, self.conditioning = torch.zeros(len(conditioning), 1), conditioning
            return self

        def outputs(self, row: int, column: int) -> torch.Tensor:
            first = 40.0 if (row, column) == (0, 0) else 0.0
            return (40 * self.last - 20 + first + self.conditioning)[..., None, None]

        def put(self, row: int, column: int, pixel: torch.Tensor) -> None:
            self.last = pixel

    event = torch.Size((1, 2, 3))
    p_x = AutoregressivePixels(
        Copies(), BernoulliLikelihood((1, 2, 3)), torch.zeros(2, 4, 1), torch.Size((2, 4)), event
    )
    assert torch.equal(p_x.sample(), torch.ones(2, 4, 1, 2, 3))
    assert p_x.log_prob(torch.zeros(4, *event)).shape == (2, 4)
