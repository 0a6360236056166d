"""What a masked convolution computes, and that it has parameters for live taps only."""

import pytest
import torch
from torch import nn
from uncollapse.errors import ShapeError
from uncollapse_images.decoders import MaskedConv2d


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


@pytest.mark.parametrize("include_centre", [False, True])
def test_images_may_be_shared_by_several_conditions(include_centre: bool) -> None:
    layer = MaskedConv2d(2, 4, 5, include_centre=include_centre, visible_channels=3, latent_size=2).double()
    x, maps, latent = (torch.randn(n, *shape).double() for n, shape in ((2, (2, 4, 5)), (6, (3, 4, 5)), (6, (2,))))
    torch.testing.assert_close(layer(x, maps, latent), layer(x.repeat(3, 1, 1, 1), maps, latent))


def test_connections_at_the_centre_leave_the_other_taps_alone() -> None:
    centre = torch.tensor([[True, False, False], [True, True, False]])
    layer = MaskedConv2d(3, 2, 3, include_centre=True, centre=centre).double()
    x = torch.randn(1, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    for output in range(2):
        (gradient,) = torch.autograd.grad(layer(x)[0, output, 1, 1], x)
        assert torch.equal(gradient[0, :, 1, 1] != 0, centre[output])
        seen = (gradient[0] != 0).sum((1, 2)) - centre[output].long()
        assert seen.tolist() == [4, 4, 4]
