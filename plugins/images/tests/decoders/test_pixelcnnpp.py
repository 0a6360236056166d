"""The PixelCNN++: what it sees, how it is wired, how it is conditioned and initialized."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional
from uncollapse.capabilities import supports
from uncollapse.config import BuildContext
from uncollapse.protocols import DataInitialized, DataSpec
from uncollapse_images.decoders import AutoregressivePixels, PixelCNNPPDecoder
from uncollapse_images.decoders.pixelcnnpp import PixelCNNPPDecoderConfig
from uncollapse_images.decoders.pixelcnnpp.layers import GatedBlock
from uncollapse_images.likelihoods import LogisticMixtureLikelihood

Pixel = tuple[int, int]


def tiny(latent=(4,), event=(3, 8, 8), levels=2, blocks=1, filters=4, maps=2, **fields) -> PixelCNNPPDecoder:
    """A small decoder in float64, initialized from random data."""
    decoder = PixelCNNPPDecoder(
        latent, event, LogisticMixtureLikelihood(event, 2), levels, blocks, filters, maps, **fields
    ).double()  # fmt: skip
    decoder.initialize(torch.randn(20, *latent).double(), images(20, event))
    return decoder


def images(count: int, event: tuple[int, ...]) -> torch.Tensor:
    return torch.randint(0, 256, (count, *event)).double() / 255


# ------------------------------------------------------------------------------------------------------ what is seen


def seen_from_every_pixel(decoder: PixelCNNPPDecoder, latent: tuple[int, ...], event: tuple[int, int, int]):
    """Yield each position, the positions whose pixels its outputs depend on, and whether all of the latent is seen."""
    _, height, width = event
    x = images(1, event).requires_grad_()
    z = torch.randn(1, *latent).double().requires_grad_()
    outputs = decoder.network(x, z)[0]
    weights = torch.randn(len(outputs)).double()
    for row, column in itertools.product(range(height), range(width)):
        gradient_x, gradient_z = torch.autograd.grad(weights @ outputs[:, row, column], (x, z), retain_graph=True)
        # Every channel alike: the one that couples them is the likelihood.
        channels = [{(int(r), int(c)) for r, c in channel.nonzero()} for channel in gradient_x[0]]
        assert all(c == channels[0] for c in channels)
        yield (row, column), channels[0], gradient_z[0]


@pytest.mark.parametrize("activation", ["concat_elu", "elu"])
@pytest.mark.parametrize(("levels", "latent", "event"), [(3, (2, 1, 2), (3, 4, 8)), (2, (3,), (2, 4, 6))])
def test_every_earlier_pixel_is_seen_and_no_later_one(levels, latent, event, activation) -> None:
    _, height, width = event
    positions = list(itertools.product(range(height), range(width)))
    decoder = tiny(latent, event, levels, blocks=2, activation=activation)
    for position, seen, _ in seen_from_every_pixel(decoder, latent, event):
        earlier = {p for p in positions if p < position}
        assert seen == earlier, position


def reach_of_one_level(height: int, width: int, blocks: int) -> dict[Pixel, set[Pixel]]:
    """Pixels that a network of one level can see, by walking over what each convolution reads."""
    positions = list(itertools.product(range(height), range(width)))
    down = [(r, c) for r in (-1, 0) for c in (-1, 0, 1)]
    right = [(r, c) for r in (-1, 0) for c in (-1, 0)]

    def spread(reach: dict[Pixel, set[Pixel]], offsets: list[Pixel]) -> dict[Pixel, set[Pixel]]:
        # Positions outside the image are zeros: nothing is seen through them.
        return {
            (r, c): set().union(*(reach[r + dr, c + dc] for dr, dc in offsets if (r + dr, c + dc) in reach))
            for r, c in positions
        }

    own = {p: {p} for p in positions}
    above = spread(own, [(r, c) for r in (-2, -1) for c in (-1, 0, 1)])
    left = spread(own, [(-1, -1), (-1, 0), (-1, 1), (0, -1)])
    # Both halves; short cuts bring nothing new, because later blocks see all that earlier ones saw.
    for _ in range(2 * blocks):
        above = spread(spread(above, down), down)
        hidden = spread(left, right)
        left = spread({p: hidden[p] | above[p] for p in positions}, right)
    return left


def test_receptive_field_of_one_level_is_that_of_its_convolutions() -> None:
    event = (2, 8, 13)
    expected = reach_of_one_level(8, 13, 1)
    assert len(expected[7, 12]) < 7 * 13  # a real limit
    decoder = tiny((3,), event, levels=1)
    for position, seen, _ in seen_from_every_pixel(decoder, (3,), event):
        assert seen == expected[position], position


@pytest.mark.parametrize("latent", [(5,), (3, 2, 2), (3, 4, 4), (2, 8, 8)])
def test_all_of_a_latent_is_used_and_a_vector_is_seen_everywhere(latent) -> None:
    event = (1, 8, 8)
    decoder = tiny(latent, event)
    total = torch.zeros(latent).double()
    for _, _, gradient in seen_from_every_pixel(decoder, latent, event):
        if len(latent) == 1:
            assert (gradient != 0).all()
        total += gradient.abs()
    assert (total > 0).all()


# -------------------------------------------------------------------------------------------------------------- wiring


def test_gated_block_is_its_formula() -> None:
    block = GatedBlock(False, 3, 2, "concat_elu", 0.0).double()
    x, conditioning, shortcut = (torch.randn(2, n, 5, 4).double() for n in (3, 6, 6))

    def f(t: torch.Tensor) -> torch.Tensor:
        return functional.elu(torch.cat([t, -t], 1))

    def conv(layer: nn.Conv2d, t: torch.Tensor) -> torch.Tensor:
        """A 2x2 kernel whose lower right tap is the position itself, as the upper left part of a 3x3 one."""
        return functional.conv2d(t, functional.pad(layer.weight, (0, 1, 0, 1)), layer.bias, padding=1)

    mixed = functional.conv2d(f(shortcut), block.shortcut.weight, block.shortcut.bias)
    a, b = (conv(block.second, f(conv(block.first, f(x)) + mixed)) + conditioning).chunk(2, 1)
    torch.testing.assert_close(block(x, conditioning, shortcut), x + a * torch.sigmoid(b))


def test_wiring_is_that_of_the_released_pixelcnnpp() -> None:
    """The whole pass again with two stacks of short cuts, as Salimans et al. (2017), figure 2, draw it."""
    latent, event, levels, blocks = (4, 2, 2), (3, 8, 8), 3, 2
    decoder = tiny(latent, event, levels, blocks)
    network = decoder.network
    x, z = images(5, event), torch.randn(5, *latent).double()
    maps = network.maps(z)
    image = torch.cat([2 * x - 1, torch.ones(5, 1, 8, 8)], 1)
    nested = [network.level]
    while nested[-1].inner is not None:
        nested.append(nested[-1].inner)

    us = [network.top_above(image)]
    uls = [network.top_row(image) + network.top_left(image)]
    for number, level in enumerate(nested):
        if number:
            outer = nested[number - 1]
            us.append(outer.shrink_above(us[-1]))
            uls.append(outer.shrink_left(uls[-1]))
        for pair in level.up:
            h = pair.conditioning(maps[number])
            us.append(pair.above(us[-1], h))
            uls.append(pair.left(uls[-1], h, us[-1]))
    assert len(us) == levels * (blocks + 1)
    u, ul = us.pop(), uls.pop()
    for number, level in reversed(list(enumerate(nested))):
        if level.inner is not None:
            u, ul = level.grow_above(u), level.grow_left(ul)
        assert len(level.down) == (blocks if level.inner is None else blocks + 1)
        for pair in level.down:
            h = pair.conditioning(maps[number])
            u = pair.above(u, h, us.pop())
            ul = pair.left(ul, h, torch.cat([u, uls.pop()], 1))
    assert not us
    assert not uls
    torch.testing.assert_close(network.head(ul), network(x, z))


def test_maes_decoder_is_a_config() -> None:
    config = PixelCNNPPDecoderConfig(blocks=6)
    network = config.build(BuildContext(DataSpec((3, 32, 32), "bytes"), latent_shape=(16, 8, 8))).network
    level, pairs = network.level, []
    for _ in range(3):
        assert [len(level.up), len(level.down)] == [6, 6 if level.inner is None else 7]
        pairs += [*level.up, *level.down]
        level = level.inner
    assert all(p.above.first.weight.shape == (96, 192, 2, 3) for p in pairs)
    assert all(p.left.second.weight.shape == (192, 192, 2, 2) for p in pairs)
    assert network.head[1].weight.shape[0] == 100
    # Up to the image's size 16 maps of 8x8 become 8 of 16x16 and 4 of 32x32.
    assert [grow.weight.shape[:2] for grow in network.maps.grow] == [(16, 8), (8, 4)]
    assert [h.shape[1:] for h in network.maps(torch.randn(2, 16, 8, 8))] == [(16, 32, 32), (16, 16, 16), (16, 8, 8)]


@pytest.mark.parametrize(
    ("latent", "levels"), [((7,), 3), ((2, 3), 3), ((4, 2, 3), 3), ((4, 1, 1), 3), ((4, 4, 6), 3), ((4, 8, 12), 4)]
)
def test_every_level_gets_maps_of_its_size(latent, levels) -> None:
    event = (3, 8, 12) if latent != (4, 1, 1) else (3, 8, 8)
    network = tiny(latent, event, min(levels, 3)).network
    found = [tuple(h.shape) for h in network.maps(torch.randn(2, *latent).double())]
    assert found == [(2, 2, event[1] >> level, event[2] >> level) for level in range(3)]


def test_work_that_needs_no_latent_is_done_once_an_image() -> None:
    decoder = tiny((3, 2, 2))
    rows: dict[str, int] = {}
    for name, module in decoder.network.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(lambda _m, inputs, _o, name=name: rows.__setitem__(name, len(inputs[0])))
    z, x = torch.randn(3, 5, 3, 2, 2).double(), images(5, (3, 8, 8))
    together = decoder(z).log_prob(x)
    shared = {name for name, count in rows.items() if count == 5}
    assert {name for name, count in rows.items() if count != 15} == shared
    # What comes before the first latent, and what the last block gets of it over its short cut.
    assert shared == {
        "top_above", "top_row", "top_left", "level.up.0.above.first", "level.up.0.above.second",
        "level.up.0.left.first", "level.down.1.above.shortcut",
    }  # fmt: skip
    apart = torch.stack([decoder(row).log_prob(x) for row in z])
    torch.testing.assert_close(together, apart)


# ------------------------------------------------------------------------------------------ initialization and training


def test_layers_are_standardized_on_the_data_and_gates_start_small() -> None:
    decoder = PixelCNNPPDecoder((5,), (3, 8, 8), LogisticMixtureLikelihood((3, 8, 8), 2), 2, 1, 4, 2, dropout=0.5)
    assert supports(decoder, DataInitialized)
    z, x = torch.randn(50, 5), images(50, (3, 8, 8)).float()
    decoder.initialize(z, x)
    assert decoder.network.training  # dropout was off for the pass only
    outputs: dict[str, torch.Tensor] = {}
    for name, module in decoder.network.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            module.register_forward_hook(lambda _m, _i, out, name=name: outputs.__setitem__(name, out.detach().clone()))
    decoder.eval()(z).log_prob(x)
    small = [name for name in outputs if name.endswith(("second", "conditioning.3"))]
    assert len(small) == 3 * 5  # of five pairs
    for name, out in outputs.items():
        scale = 0.1 if name in small else 1.0
        std, mean = torch.std_mean(out, [d for d in range(out.dim()) if d != 1], correction=0)
        torch.testing.assert_close(mean / scale, torch.zeros_like(mean), atol=1e-4, rtol=0, msg=name)
        torch.testing.assert_close(std / scale, torch.ones_like(std), atol=1e-2, rtol=0, msg=name)


def test_dropout_is_for_training_only() -> None:
    decoder = tiny(dropout=0.5)
    z, x = torch.randn(5, 4).double(), images(5, (3, 8, 8))
    assert not torch.equal(decoder(z).log_prob(x), decoder(z).log_prob(x))
    decoder.eval()
    assert torch.equal(decoder(z).log_prob(x), decoder(z).log_prob(x))


@pytest.mark.parametrize("latent", [(4,), (3, 8, 8), (3, 2, 2)])
def test_trains(latent) -> None:
    event = (3, 8, 8)
    decoder = PixelCNNPPDecoder(latent, event, LogisticMixtureLikelihood(event, 2), 3, 1, 4, 2)
    z, x = torch.randn(2, 5, *latent, requires_grad=True), images(5, event).float()
    decoder.initialize(z.detach()[0], x)
    p_x = decoder(z)
    assert isinstance(p_x, AutoregressivePixels)
    assert (p_x.batch_shape, p_x.event_shape) == ((2, 5), event)
    log_p = p_x.log_prob(x)
    assert log_p.shape == (2, 5)
    log_p.mean().backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert (parameter.grad != 0).any(), name
    assert (z.grad != 0).all()
    with torch.autocast("cpu", torch.bfloat16):
        half = decoder(z).log_prob(x)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, log_p, rtol=0.05, atol=0)


def test_learns_an_image() -> None:
    decoder = tiny((2,), (3, 4, 4), filters=6).float()
    z, x = torch.zeros(2, 2), images(1, (3, 4, 4)).float().expand(2, 3, 4, 4)
    optimizer = torch.optim.Adam(decoder.parameters(), 1e-2)
    first = -decoder(z).log_prob(x).mean().item()
    for _ in range(30):
        loss = -decoder(z).log_prob(x).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < first - 60  # more than a nat a value
