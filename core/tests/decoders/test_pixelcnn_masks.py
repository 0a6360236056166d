"""What a masked convolution and a whole PixelCNN see: exactly the earlier pixels in reach, and the latent."""

import pytest
import torch
from torch import nn
from uncollapse.decoders import MaskedConv2d, PixelCNNDecoder
from uncollapse.errors import ShapeError
from uncollapse.likelihoods import BernoulliLikelihood


def raster_mask(k: int, include_centre: bool) -> torch.Tensor:
    mask = torch.zeros(k, k)
    mask[: k // 2] = 1
    mask[k // 2, : k // 2 + int(include_centre)] = 1
    return mask


def dense_kernel(layer: MaskedConv2d) -> torch.Tensor:
    """The k x k kernel of a layer, filled tap by tap, with noise under the mask that the mask has to remove."""
    k, n_out, n_in, n_visible = layer.kernel_size[0], layer.weight.shape[0], layer.in_channels, layer.visible_channels
    include_centre = layer.live_taps == k * (k // 2) + k // 2 + 1
    kernel = torch.randn(n_out, n_in + n_visible, k, k, dtype=layer.weight.dtype)
    taps = [(row, column) for row in range(k) for column in range(k) if raster_mask(k, include_centre)[row, column]]
    for channel in range(n_in):
        for t, (row, column) in enumerate(taps):
            kernel[:, channel, row, column] = layer.weight.detach()[:, channel * len(taps) + t]
    kernel[:, :n_in] *= raster_mask(k, include_centre)
    kernel[:, n_in:] = layer.weight.detach()[:, n_in * len(taps) : layer.image_weights].view(n_out, n_visible, k, k)
    return kernel


@pytest.mark.parametrize("visible", [0, 2])
@pytest.mark.parametrize(
    ("k", "include_centre"), [(1, True), (3, True), (5, True), (7, True), (3, False), (5, False), (7, False)]
)
def test_cropped_convolution_equals_a_dense_masked_one(k: int, visible: int, include_centre: bool) -> None:
    layer = MaskedConv2d(3, 4, k, include_centre=include_centre, visible_channels=visible, latent_size=2)
    layer = layer.double()
    x, maps = torch.randn(2, 3, 6, 5).double(), torch.randn(2, visible, 6, 5).double()
    latent = torch.randn(2, 2).double()
    shift = latent @ layer.weight.detach()[:, -2:].T
    both = torch.cat([x, maps], dim=1)
    expected = nn.functional.conv2d(both, dense_kernel(layer), layer.bias, padding=k // 2) + shift[:, :, None, None]
    torch.testing.assert_close(layer(x, maps if visible else None, latent), expected)


def test_parameters_exist_for_live_taps_only() -> None:
    layer = MaskedConv2d(3, 4, 5, include_centre=False, visible_channels=2)
    assert sum(p.numel() for p in layer.parameters()) == 4 * (3 * 12 + 2 * 25) + 4
    layer = MaskedConv2d(3, 4, 5, include_centre=True, latent_size=6)
    assert sum(p.numel() for p in layer.parameters()) == 4 * (3 * 13 + 6) + 4


@pytest.mark.parametrize(("k", "include_centre"), [(4, True), (1, False), (0, True)])
def test_impossible_kernels_are_refused(k: int, include_centre: bool) -> None:
    with pytest.raises(ShapeError, match=f"odd size of at least {1 if include_centre else 3}, found {k}"):
        MaskedConv2d(1, 1, k, include_centre=include_centre)


def pixels_in_reach(kernels: tuple[int, ...], row: int, column: int, height: int, width: int) -> set[tuple[int, int]]:
    """Pixels that a stack of masked kernels can see from (row, column), by walking over its offsets."""
    seen = {(row, column)}
    for layer, k in reversed(list(enumerate(kernels))):
        mask = raster_mask(k, include_centre=layer > 0)
        offsets = [(r - k // 2, c - k // 2) for r in range(k) for c in range(k) if mask[r, c]]
        steps = {(r + dr, c + dc) for r, c in seen for dr, dc in offsets}
        # Positions outside the image are padding: nothing is seen through them.
        seen = {(r, c) for r, c in steps if 0 <= r < height and 0 <= c < width}
    return seen


@pytest.mark.parametrize("initialized", [False, True], ids=["plain", "weight_norm"])
@pytest.mark.parametrize("conditioning", ["bias", "maps"])
@pytest.mark.parametrize("kernels", [(3, 3), (5, 3, 1), (7, 5, 5)])
def test_receptive_field(kernels: tuple[int, ...], conditioning: str, initialized: bool) -> None:
    height, width = 6, 5
    event = (2, height, width)
    decoder = PixelCNNDecoder(
        (3,), event, BernoulliLikelihood(event), kernels, 6, conditioning=conditioning, weight_norm=initialized
    ).double()  # fmt: skip
    if initialized:
        decoder.initialize(torch.randn(20, 3).double(), torch.rand(20, *event).double())
    z = torch.randn(1, 3, dtype=torch.float64, requires_grad=True)
    x = torch.rand(1, *event, dtype=torch.float64, requires_grad=True)
    logits = decoder(z).teacher_forced(x).logits[0]
    for row in range(height):
        for column in range(width):
            for channel in range(2):
                gradient_x, gradient_z = torch.autograd.grad(logits[channel, row, column], (x, z), retain_graph=True)
                for seen_channel in range(2):
                    seen = {(int(r), int(c)) for r, c in gradient_x[0, seen_channel].nonzero()}
                    assert seen == pixels_in_reach(kernels, row, column, height, width)
                assert (gradient_z != 0).all()


def test_reach_covers_every_earlier_pixel_where_kernels_are_large() -> None:
    """Guards the reference above: with one 7x7 kernel on 4x4 images, every earlier pixel is in reach, no other."""
    for row in range(4):
        for column in range(4):
            earlier = {(r, c) for r in range(4) for c in range(4) if (r, c) < (row, column)}
            assert pixels_in_reach((7,), row, column, 4, 4) == earlier
