"""What every output sees, by gradients in float64: the latent and all earlier pixels in reach, and no later one."""

from itertools import product

import pytest
import torch
from pixel_reference import KINDS, Reach, build
from uncollapse_images.decoders.gated_pixelcnn import GatedPixelCNN

ORDERS = {"joint": None, "ascending": [0, 1, 2], "descending": [2, 1, 0]}
EXTRA = {"masked": {"long_skips": True}, "gated": {"condition": "horizontal"}}


@torch.no_grad()
def switch_on(network: GatedPixelCNN) -> None:
    """Keep the two ReLUs behind the horizontal stack on, which else hide now and then what features depend on."""
    last = network.layers[-1]
    for layer, norm in ((last.out, last.norms["out"]), (network.hidden, network.hidden_norm)):
        (layer if layer.bias is not None else norm).bias.add_(100)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("conditioning", "normalization", "more"),
    [("bias", "none", False), ("maps", "weight", True), ("maps", "batch", True)],
)
@pytest.mark.parametrize("kernels", [(5, 3, 3), (7, 1, 5)])
@pytest.mark.parametrize("kind", KINDS)
def test_receptive_field(
    kind: str, kernels: tuple[int, ...], conditioning: str, normalization: str, more: bool, order: str
) -> None:
    event, channels = (3, 4, 5), ORDERS[order]
    fields = {"conditioning": conditioning, "normalization": normalization, "channel_order": order}
    decoder = build(kind, event, kernels=kernels, channels=9, **fields, **(EXTRA[kind] if more else {}))
    if kind == "gated":
        switch_on(decoder.network)
    z = torch.randn(1, 2, dtype=torch.float64, requires_grad=True)
    x = torch.rand(1, *event, dtype=torch.float64, requires_grad=True)
    logits = decoder(z).teacher_forced(x).logits[0]
    walk = Reach(kernels, event[1:], groups=3 if channels else 1)
    for channel, row, column in product(*map(range, event)):
        gradient_x, gradient_z = torch.autograd.grad(logits[channel, row, column], (x, z), retain_graph=True)
        assert (gradient_z != 0).all()
        seen = {(int(r), int(c), int(k)) for k, r, c in gradient_x[0].nonzero()}
        group = channels.index(channel) if channels else 0
        expected = getattr(walk, kind)((row, column, group))
        if channels:
            assert seen == {(r, c, channels[g]) for r, c, g in expected}
        else:
            assert seen == {(r, c, k) for r, c, _ in expected for k in range(3)}
        drawn_before = [] if channels is None else channels[:group]
        assert all((r, c) < (row, column) or ((r, c) == (row, column) and k in drawn_before) for r, c, k in seen)


def test_gated_stacks_leave_no_blind_spot() -> None:
    """With these kernels the masked network misses pixels at the upper right that the gated one sees."""
    height = width = 7
    walk = Reach((3, 3, 3, 3, 3, 3, 3), (height, width))
    missed = 0
    for row, column in product(range(height), range(width)):
        cone = {(r, c, 0) for r in range(row) for c in range(width) if abs(c - column) <= 7}
        assert walk.gated((row, column, 0)) == cone | {(row, c, 0) for c in range(column)}
        missed += len(cone - walk.masked((row, column, 0)))
    assert missed > 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_sees_all_earlier_pixels_where_kernels_are_large(kind: str) -> None:
    for row, column in product(range(3), range(3)):
        earlier = {(r, c, 0) for r, c in product(range(3), range(3)) if (r, c) < (row, column)}
        assert getattr(Reach((7,), (3, 3)), kind)((row, column, 0)) == earlier


@pytest.mark.parametrize("order", ["ascending", "descending"])
@pytest.mark.parametrize("kind", KINDS)
def test_ordered_channels_of_one_pixel_depend_on_each_other(kind: str, order: str) -> None:
    """The total probability of two coupled channels of one pixel is one, and they are not independent."""
    decoder = build(kind, (2, 1, 2), channels=8, channel_order=order)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.mul_(3)
        x = torch.tensor(list(product([0.0, 1.0], repeat=4)), dtype=torch.float64).view(16, 1, 2, 1, 2)
        p = decoder(torch.randn(3, 2).double()).log_prob(x).exp()
    torch.testing.assert_close(p.sum(0), torch.ones(3).double())
    joint = p.view(2, 2, 2, 2, 3).sum((1, 3))  # of the two channels at the first pixel
    independent = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    assert (joint - independent).abs().max() > 1e-4
